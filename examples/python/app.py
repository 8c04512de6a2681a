"""A Python app of a cage: standard library only, started in shell form with a WORKDIR and ENV."""
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply({"response": os.environ["GREETING"], "cwd": os.getcwd(), "path": self.path})

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.reply({"received": len(data)})

    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("0.0.0.0", 8080), App).serve_forever()
