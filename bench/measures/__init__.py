"""What is measured: small requests, image data, and starting."""
