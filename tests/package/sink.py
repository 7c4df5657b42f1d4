"""A next hop that writes the last message that it took into a file: sink.py PORT FILE [ADDRESS]."""

import socketserver
import sys

REPLIES = {b"EHLO": b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n", b"QUIT": b"221 2.0.0 Bye\r\n"}


class Session(socketserver.StreamRequestHandler):
    """One conversation."""

    def handle(self):
        self.wfile.write(b"220 sink.example ESMTP\r\n")
        for line in self.rfile:
            word = line[:4].upper()
            if word != b"DATA":
                self.wfile.write(REPLIES.get(word, b"250 2.0.0 Ok\r\n"))
                if word == b"QUIT":
                    return
                continue
            self.wfile.write(b"354 Go on\r\n")
            message = b""
            for own in self.rfile:
                if own == b".\r\n":
                    break
                message += own
            with open(sys.argv[2], "wb") as file:
                file.write(message)
            self.wfile.write(b"250 2.0.0 Kept\r\n")


class Server(socketserver.ThreadingTCPServer):
    """Ends with its process, whoever still talks."""

    allow_reuse_address = True
    daemon_threads = True


ADDRESS = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
Server((ADDRESS, int(sys.argv[1])), Session).serve_forever()
