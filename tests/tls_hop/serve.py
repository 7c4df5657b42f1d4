"""Next hops whose TLS is wrong in ways that a sound library does not offer. Reads its cases from a file, prints their ports, and at the
end of its input what each was told over the connection, greetings aside."""

import json
import socket
import ssl
import sys
import threading
import warnings

warnings.simplefilter("ignore")
cases = json.load(open(sys.argv[1]))
heard = {case["name"]: [] for case in cases}


def context(case):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1
    made.set_ciphers(case.get("ciphers", "ALL") + ":@SECLEVEL=0")
    if "most" in case:
        made.maximum_version = ssl.TLSVersion[case["most"]]
    made.load_cert_chain(case["chain"], case["key"])
    if "clients" in case:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(case["clients"])
    return made


def lines(receive):
    text = b""
    while True:
        while b"\n" not in text:
            more = receive()
            if not more:
                return
            text += more
        line, text = text.split(b"\n", 1)
        yield line.strip().decode("latin-1")


def talk(case, stream, keywords):
    """Answers commands; gives once STARTTLS was said."""
    in_data = False
    for line in lines(lambda: stream.recv(65536)):
        if in_data:
            if line == ".":
                in_data = False
                stream.sendall(b"250 2.0.0 Taken over TLS\r\n")
            continue
        verb = line.upper()[:8]
        if verb == "STARTTLS":
            return
        if not verb.startswith(("EHLO", "HELO", "QUIT")):
            heard[case["name"]].append(line)
        if verb.startswith("EHLO"):
            stream.sendall(("".join(f"250-{word}\r\n" for word in ["hop.example"] + keywords) + "250 HELP\r\n").encode())
        elif verb == "DATA":
            in_data = True
            stream.sendall(b"354 Go\r\n")
        else:
            stream.sendall(b"250 2.0.0 Ok\r\n")


def wait_for_end(tcp):
    while tcp.recv(65536):
        pass


def cut_off(case, tcp):
    """A handshake that ends in the middle of what the server says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(case).wrap_bio(incoming, outgoing, server_side=True)
    while not outgoing.pending:
        incoming.write(tcp.recv(65536))
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
    tcp.sendall(outgoing.read()[: case["cut"]])
    tcp.shutdown(socket.SHUT_WR)
    wait_for_end(tcp)


def secured(case, tcp):
    if case.get("hang"):
        return wait_for_end(tcp)
    if "instead" in case:
        tcp.recv(65536)
        tcp.sendall(case["instead"].encode("latin-1"))
        return wait_for_end(tcp)
    if "cut" in case:
        return cut_off(case, tcp)
    with context(case).wrap_socket(tcp, server_side=True) as tls:
        if case.get("implicit"):
            tls.sendall(b"220 hop.example ESMTP\r\n")
        talk(case, tls, case.get("keywords", []))


def serve(case, tcp):
    if case.get("implicit"):
        return secured(case, tcp)
    tcp.sendall(case.get("greeting", "220 hop.example ESMTP\r\n").encode("latin-1"))
    offer = [] if case.get("offers") is False else ["STARTTLS"]
    talk(case, tcp, offer + case.get("keywords_in_clear", []))
    answer = case.get("answer", "220 2.0.0 Go\r\n")
    tcp.sendall(answer.encode("latin-1"))
    if not answer.startswith("220"):
        return talk(case, tcp, [])
    secured(case, tcp)


def one(case, tcp):
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with tcp:
        try:
            serve(case, tcp)
        except (OSError, ssl.SSLError):
            pass


def accept(case, listener):
    while True:
        threading.Thread(target=one, args=(case, listener.accept()[0]), daemon=True).start()


listeners = [socket.create_server(("127.0.0.1", 0)) for _ in cases]
for case, listener in zip(cases, listeners):
    threading.Thread(target=accept, args=(case, listener), daemon=True).start()
print(json.dumps([own.getsockname()[1] for own in listeners]), flush=True)
for _ in sys.stdin:
    print(json.dumps(heard), flush=True)
