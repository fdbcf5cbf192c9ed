#!/usr/bin/python3
# needs MSAL for Python: apt-get install -y python3-msal
"""A program that uses MSAL for Python and its cache file as Cognite's SDK does: read at the start, written in place at the end.

  program.py FILE URL STYLE COMMAND

URL is where https://idp.test really is. STYLE is entra or oidc. COMMAND is sign-in (by device code), silent (from the cache, or
by a refresh), or app (an application's token, from the cache). The last line printed is one JSON object.
"""
import json, os, sys, urllib.error, urllib.parse, urllib.request
import msal

file, url, style, command = sys.argv[1:]
authority, scopes = 'https://idp.test/11111111-2222-3333-4444-555555555555', ['read']

class Response:
    def __init__(self, code, body): self.status_code, self.text, self.headers = code, body, {}
    def raise_for_status(self): assert self.status_code < 400, self.text

class Http:  # MSAL insists on https
    tokens = 0
    def send(self, to, body, headers):
        to = to.replace('https://idp.test:443', url).replace('https://idp.test', url)
        if style == 'oidc': to = to.replace('/v2.0/.well-known', '/.well-known')
        try:
            with urllib.request.urlopen(urllib.request.Request(to, body, headers)) as r: return Response(r.status, r.read().decode())
        except urllib.error.HTTPError as e: return Response(e.code, e.read().decode())
    def get(self, to, params=None, headers=None, **_): return self.send(to, None, headers or {})
    def post(self, to, params=None, data=None, headers=None, **_):
        self.tokens += to.endswith('/token')
        data = {k: v for k, v in (data or {}).items() if style == 'entra' or k != 'client_info'}  # which others do not know
        return self.send(to, urllib.parse.urlencode(data).encode(), headers or {})
    def close(self): pass

http, cache = Http(), msal.SerializableTokenCache()
if os.path.exists(file): cache.deserialize(open(file).read())
more = dict(authority=authority, http_client=http, token_cache=cache, instance_discovery=False, validate_authority=False)
if command == 'app':
    app, account = msal.ConfidentialClientApplication('client', client_credential='not needed', **more), None
else:
    app = msal.PublicClientApplication('app', **more)
    account = (app.get_accounts() or [None])[0]
if command == 'sign-in': answer = app.acquire_token_by_device_flow(app.initiate_device_flow(scopes))
else: answer = app.acquire_token_silent(scopes, account)
if cache.has_state_changed: open(file, 'w+').write(cache.serialize())
print(json.dumps(dict(token=(answer or {}).get('access_token'), error=str((answer or {}).get('error_description')), accounts=len(app.get_accounts()),
                      username=(account or {}).get('username'), requests=http.tokens)))
