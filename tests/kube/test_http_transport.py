"""The wire against a server that hangs, drips, breaks off, redirects, refuses and rotates its credentials."""

import os
import ssl
import subprocess
import sys
import time

import pytest
import yaml
from certificates import make_certificate
from fault_server import HANG_UP, LIMITS, Answer, FaultServer, connected, serving, status

from canary.errors import RefusedError, UnavailableError
from canary.kube.client import Client, Intent
from canary.kube.http_transport import MAX_BODY_BYTES, Limits, from_kubeconfig
from canary.kube.resources import CANARYPOLICIES
from canary.kube.transport import JSON


def read(transport):
    return transport.request("GET", "/x", query={}, body=None, content_type=JSON)


def test_a_server_that_never_answers_is_unavailable_within_the_limit(tmp_path):
    with serving(lambda seen: Answer(parts=(b"{}",), wait=20)) as server:
        started = time.monotonic()
        with pytest.raises(UnavailableError):
            read(connected(server, tmp_path, Limits(read_seconds=0.2)))
        assert time.monotonic() - started < 10


def test_an_answer_that_drips_is_cut_at_the_deadline(tmp_path):
    drip = Answer(parts=(b"{",) + (b" ",) * 200, pause=0.05)
    with serving(lambda seen: drip) as server:
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="did not end in time"):
            read(connected(server, tmp_path, Limits(read_seconds=0.3)))
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "answer",
    [
        Answer(parts=(b"<html>hello</html>",)),
        Answer(parts=(b'{"half": ',)),
        Answer(parts=(b"[1, 2]",)),
        Answer(parts=(b"null",)),
        Answer(parts=(b"[" * 100_000,)),
        Answer(parts=(b"{}",), length=500),
        Answer(302, (b"{}",), {"Location": "http://127.0.0.1:1/elsewhere"}),
    ],
    ids=["html", "half-json", "a-list", "null", "deep", "cut-off", "redirect"],
)
def test_what_is_no_whole_json_object_is_unavailable(tmp_path, answer):
    with serving(lambda seen: answer) as server:
        client = Client(connected(server, tmp_path))
        with pytest.raises(UnavailableError):
            client.get(CANARYPOLICIES.at("shop", "checkout"))


def test_an_answer_beyond_the_size_limit_is_not_read_to_its_end(tmp_path):
    megabyte = b" " * 1_000_000
    too_many = MAX_BODY_BYTES // len(megabyte) + 2
    with serving(lambda seen: Answer(parts=(megabyte,) * too_many)) as server:
        transport = connected(server, tmp_path, Limits(read_seconds=20))
        with pytest.raises(UnavailableError, match="larger than"):
            read(transport)


def test_a_refused_connection_is_unavailable(tmp_path):
    server = FaultServer()
    transport = connected(server, tmp_path)
    server.stop()
    with pytest.raises(UnavailableError):
        read(transport)


def test_a_failure_in_other_words_than_json_keeps_them(tmp_path):
    with serving(lambda seen: Answer(503, (b"upstream is resting",))) as server:
        response = read(connected(server, tmp_path))
    assert (response.status, response.body) == (503, {"message": "upstream is resting"})


def test_many_requests_share_one_connection(tmp_path):
    with serving() as server:
        transport = connected(server, tmp_path)
        for _ in range(20):
            read(transport)
        assert server.connections == 1
        transport.close()


@pytest.mark.parametrize("answer", [status(500), Answer(HANG_UP)], ids=["500", "hung up"])
def test_nothing_is_sent_twice(tmp_path, answer):
    with serving(lambda seen: answer) as server:
        client = Client(connected(server, tmp_path))
        with pytest.raises(UnavailableError):
            client.merge_patch(CANARYPOLICIES.at("shop", "checkout"), {}, intent=Intent.NEUTRAL)
        with pytest.raises(UnavailableError):
            client.get(CANARYPOLICIES.at("shop", "checkout"))
        assert [seen.kind for seen in server.seen] == ["PATCH", "list"]


def test_a_write_that_landed_after_our_time_limit_is_seen_by_the_next_read(tmp_path):
    def script(seen):
        if seen.kind == "PATCH":
            server.objects.append(seen.body)
            return Answer(parts=(b"{}",), wait=1.0)
        return None

    with serving(script) as server:
        client = Client(connected(server, tmp_path, Limits(read_seconds=0.2)))
        with pytest.raises(UnavailableError):
            client.merge_patch(CANARYPOLICIES.at("shop", "checkout"), {"spec": {}}, intent=Intent.NEUTRAL)
        assert len(client.list(CANARYPOLICIES)) == 1
        assert server.count("PATCH") == 1


def test_a_new_token_on_disk_is_used_without_a_failed_call(tmp_path):
    def script(seen):
        return None if seen.headers.get("authorization") == f"Bearer {server.token}" else status(401)

    with serving(script) as server:
        server.token = "first"
        path = server.kubeconfig(tmp_path / "kubeconfig", "first")
        transport = from_kubeconfig(str(path), None, Limits(files_seconds=3600))
        assert read(transport).status == 200
        server.token = "second"
        server.kubeconfig(path, "second")
        assert read(transport).status == 200


def test_credentials_that_change_on_disk_are_taken_before_the_old_ones_are_refused(tmp_path):
    with serving() as server:
        path = server.kubeconfig(tmp_path / "kubeconfig", "first")
        transport = from_kubeconfig(str(path), None, Limits(files_seconds=0))
        read(transport)
        server.kubeconfig(path, "second-and-longer")
        read(transport)
        assert server.seen[-1].headers["authorization"] == "Bearer second-and-longer"


def test_a_token_file_is_read_without_its_line_end_and_again_after_a_401(tmp_path):
    def script(seen):
        return None if seen.headers.get("authorization") == f"Bearer {server.token}" else status(401)

    with serving(script) as server:
        path = server.kubeconfig(tmp_path / "kubeconfig")
        config = yaml.safe_load(path.read_text())
        (tmp_path / "token").write_text("first\n")
        config["users"][0]["user"] = {"tokenFile": "token"}
        path.write_text(yaml.safe_dump(config))
        transport = from_kubeconfig(str(path), None, Limits(files_seconds=3600))
        for server.token in ("first", "second"):
            (tmp_path / "token").write_text(server.token + "\n")
            assert read(transport).status == 200


def test_a_refused_identity_is_asked_once_when_its_credentials_did_not_change(tmp_path):
    with serving(lambda seen: status(401)) as server:
        client = Client(connected(server, tmp_path))
        with pytest.raises(UnavailableError):
            client.get(CANARYPOLICIES.at("shop", "checkout"))
        assert len(server.seen) == 1


def test_a_kubeconfig_that_is_half_written_leaves_the_old_credentials_in_use(tmp_path):
    with serving() as server:
        transport = connected(server, tmp_path)
        (tmp_path / "kubeconfig").write_text("clusters: [")
        assert read(transport).status == 200
        assert server.seen[-1].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("text", ["", "clusters: [", "[]", "current-context: nowhere"])
def test_a_bad_kubeconfig_is_refused_with_a_sentence(tmp_path, text):
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(RefusedError, match="credentials"):
        from_kubeconfig(str(path))


def serve_tls(server, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server._listener.socket = context.wrap_socket(server._listener.socket, server_side=True)


def test_a_new_certificate_authority_on_disk_is_trusted_at_the_next_call(tmp_path):
    first, second = make_certificate(tmp_path, "first"), make_certificate(tmp_path, "second")
    with serving() as server:
        serve_tls(server, *first)
        path = server.kubeconfig(tmp_path / "kubeconfig")
        text = path.read_text().replace("http:", "https:")
        config = yaml.safe_load(text)
        config["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
        path.write_text(yaml.safe_dump(config))
        (tmp_path / "ca.crt").write_bytes(first[0].read_bytes())
        transport = from_kubeconfig(str(path), None, LIMITS)
        assert read(transport).status == 200
        server.kill()
        server.revive()
        serve_tls(server, *second)
        with pytest.raises(UnavailableError):
            read(transport)
        (tmp_path / "new.crt").write_bytes(second[0].read_bytes())
        os.replace(tmp_path / "new.crt", tmp_path / "ca.crt")
        assert read(transport).status == 200
        transport.close()


def test_the_kubernetes_package_is_imported_by_the_wire_alone():
    modules = "client, cache, watch, queue, lease, patches, frozen"
    code = f"import sys; from canary.kube import {modules}; print('kubernetes' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
