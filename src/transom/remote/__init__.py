"""Reading what lies behind URLs that users give: the guard before every connection, and downloads."""
