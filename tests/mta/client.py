"""Sends the message in a file with Python's smtplib, and says as JSON what the library told.

usage: client.py PORT FILE OPTIONS RECIPIENT...
"""

import json
import smtplib
import sys

port, path, options, *recipients = sys.argv[1:]
with open(path, "rb") as file:
    message = file.read()
told = {"refused": [], "reply": ""}
try:
    with smtplib.SMTP("127.0.0.1", int(port), local_hostname="client.example", timeout=20) as client:
        refused = client.sendmail("news@shop.example", recipients, message, mail_options=options.split())
        told["refused"] = sorted(refused)
        told["reply"] = "250 " + " ".join(text.decode() for _, text in refused.values())
except smtplib.SMTPRecipientsRefused as error:
    told["refused"] = sorted(error.recipients)
    told["reply"] = " ".join(f"{code} {text.decode()}" for code, text in error.recipients.values())
except smtplib.SMTPResponseException as error:
    told["reply"] = f"{error.smtp_code} {error.smtp_error.decode()}"
print(json.dumps(told))
