"""What the kind `email` is made of: the message, the server or folder that it goes to, the SMTP sessions."""
