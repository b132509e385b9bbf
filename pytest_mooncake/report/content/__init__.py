"""What a report says, as values: tables, reasons, setting, business case. No format is known here."""
