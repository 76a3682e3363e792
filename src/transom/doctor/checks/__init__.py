"""The checks of an examination, one file each; `transom.doctor.CHECKS` names them."""
