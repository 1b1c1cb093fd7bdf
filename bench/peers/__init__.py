"""What Tiercast is measured against: small honest programs, each tuned as its own documentation advises."""
