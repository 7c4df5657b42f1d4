"""An identity provider made of pysaml2, for people who need no password: who it is stands in the address of its page.

    idp.py FOLDER PORT SP_METADATA_URL

Serves /metadata, /sso (a page with a button for each person; /sso?...&user=NAME answers at once), and /slo. The metadata of the service provider is
fetched when somebody first comes from there.
"""
import html
import os
import subprocess
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlparse

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.config import IdPConfig
from saml2.metadata import entity_descriptor
from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
from saml2.server import Server

FOLDER, PORT, SP = sys.argv[1], int(sys.argv[2]), sys.argv[3]
BASE = f"http://127.0.0.1:{PORT}"
PEOPLE = {
    "vera": ["viewers"],
    "olga": ["officers"],
    "omar": ["operators"],
    "sam": ["shop-officers"],
    "nora": [],
}


def configured(metadata):
    key, certificate = os.path.join(FOLDER, "idp.key"), os.path.join(FOLDER, "idp.crt")
    if not os.path.exists(key):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=idp.example", "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
    return IdPConfig().load(
        {
            "entityid": f"{BASE}/metadata",
            "service": {
                "idp": {
                    "endpoints": {
                        "single_sign_on_service": [(f"{BASE}/sso", BINDING_HTTP_REDIRECT)],
                        "single_logout_service": [(f"{BASE}/slo", BINDING_HTTP_REDIRECT)],
                    },
                    "name_id_format": [NAMEID_FORMAT_PERSISTENT],
                    "policy": {"default": {"lifetime": {"minutes": 5}, "attribute_restrictions": None}},
                    "sign_response": True,
                    "sign_assertion": True,
                }
            },
            "key_file": key,
            "cert_file": certificate,
            "metadata": {"local": [metadata]} if metadata else {},
            "xmlsec_binary": "/usr/bin/xmlsec1",
            "debug": False,
        }
    )


STATE = {"server": None}


def server():
    if STATE["server"] is None:
        path = os.path.join(FOLDER, "sp.xml")
        with urllib.request.urlopen(SP, timeout=10) as answer, open(path, "wb") as file:
            file.write(answer.read())
        STATE["server"] = Server(config=configured(path))
    return STATE["server"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/metadata":
            self.answer(str(entity_descriptor(configured(None))), "application/samlmetadata+xml")
        elif url.path == "/sso" and "user" in query:
            self.answer(self.signed_in(query))
        elif url.path == "/sso":
            buttons = "".join(f'<p><a id="{own}" href="/sso?{html.escape(urlencode({**query, "user": own}))}">{own}</a></p>' for own in PEOPLE)
            self.answer(f"<h1>Who are you?</h1>{buttons}")
        elif url.path == "/slo" and "SAMLRequest" in query:
            self.redirect(self.signed_out(query))
        else:
            self.answer("Nothing here.", status=404)

    def signed_in(self, query):
        request = server().parse_authn_request(query["SAMLRequest"], BINDING_HTTP_REDIRECT)
        target = server().response_args(request.message)
        target.pop("binding", None)
        target.pop("name_id_policy", None)
        name = NameID(format=NAMEID_FORMAT_PERSISTENT, text=query["user"])
        response = server().create_authn_response(
            {"groups": PEOPLE[query["user"]], "mail": f"{query['user']}@company.example"},
            userid=query["user"],
            name_id=name,
            authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password", "authn_auth": BASE},
            sign_response=True,
            sign_assertion=True,
            sign_alg="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
            digest_alg="http://www.w3.org/2001/04/xmlenc#sha256",
            **{name: value for name, value in target.items() if name in ("in_response_to", "destination", "sp_entity_id")},
        )
        import base64

        encoded = base64.b64encode(str(response).encode()).decode()
        action = html.escape(target["destination"])
        return (
            f'<form id="back" method="post" action="{action}"><input type="hidden" name="SAMLResponse" value="{encoded}">'
            '<noscript><button>Go on</button></noscript></form><script>document.forms[0].submit()</script>'
        )

    def signed_out(self, query):
        request = server().parse_logout_request(query["SAMLRequest"], BINDING_HTTP_REDIRECT)
        response = server().create_logout_response(request.message, [BINDING_HTTP_REDIRECT])
        location = server().pick_binding("single_logout_service", [BINDING_HTTP_REDIRECT], "spsso", request)[1]
        sent = server().apply_binding(BINDING_HTTP_REDIRECT, str(response), location, query.get("RelayState", ""), response=True)
        return dict(sent["headers"])["Location"]

    def redirect(self, to):
        self.send_response(303)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, text, kind="text/html; charset=utf-8", status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


httpd = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
print("ready", flush=True)
httpd.serve_forever()
