# Verifies webhooks with the official PyPI library: a list of {secret, headers, body} on standard
# input, a list of true and false on standard output.
import json
import sys

from standardwebhooks import Webhook


def verdict(message):
    try:
        Webhook(message["secret"]).verify(message["body"], message["headers"])
        return True
    except Exception:
        return False


print(json.dumps([verdict(message) for message in json.load(sys.stdin)]))
