"""The Authenticator port: who calls, by client certificate, by bearer token, or by both."""
