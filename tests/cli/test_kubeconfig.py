"""Kubeconfig files as kubectl reads them: merged, relative, with every kind of credentials that is common."""

import base64
import json
import sys

import pytest
import yaml

from canary.cli.kubeconfig import Access, ask_plugin, read_connection
from canary.errors import RefusedError, UnavailableError


def config(folder, name="config", *, cluster=None, user=None, context="lab", current=True):
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": "https://api.example.org:6443/", **(cluster or {})}}
        ],
        "users": [{"name": "u", "user": user or {"token": "t"}}],
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
    }
    path = folder / name
    path.write_text(yaml.safe_dump({**body, "current-context": context} if current else body))
    return str(path)


def read(path, **access):
    return read_connection(Access(kubeconfig=path, **access), {})


def test_the_current_context_says_server_namespace_and_token(tmp_path):
    connection = read(config(tmp_path))
    assert (connection.server, connection.cluster, connection.namespace) == (
        "https://api.example.org:6443",
        "lab",
        "shop",
    )
    assert connection.identity.token == "t"


def test_of_several_files_the_first_to_name_a_thing_wins(tmp_path):
    one = config(tmp_path, "one", user={"token": "first"}, current=False)
    two = config(tmp_path, "two", user={"token": "second"}, context="other")
    connection = read_connection(Access(), {"KUBECONFIG": f"{one}:{tmp_path}/absent:{two}"})
    assert (connection.cluster, connection.identity.token) == ("other", "first")


def test_relative_paths_start_at_the_file_that_names_them(tmp_path):
    (tmp_path / "ca.pem").write_text("CA")
    (tmp_path / "me.pem").write_text("CERTIFICATE")
    (tmp_path / "me.key").write_text("KEY")
    user = {"client-certificate": "me.pem", "client-key": "me.key", "tokenFile": "token"}
    connection = read(config(tmp_path, cluster={"certificate-authority": "ca.pem"}, user=user))
    assert connection.trust.ca == b"CA"
    assert (connection.identity.certificate, connection.identity.key) == (b"CERTIFICATE", b"KEY")
    assert connection.identity.token_file == str(tmp_path / "token")


def test_data_in_the_file_goes_before_paths(tmp_path):
    data = base64.b64encode(b"INLINE").decode()
    cluster = {"certificate-authority-data": data, "certificate-authority": "absent.pem"}
    assert read(config(tmp_path, cluster=cluster)).trust.ca == b"INLINE"


def test_trust_and_proxy_are_read(tmp_path):
    cluster = {
        "insecure-skip-tls-verify": True,
        "tls-server-name": "inside.example.org",
        "proxy-url": "http://proxy.example.org:3128",
    }
    connection = read(config(tmp_path, cluster=cluster))
    assert (connection.trust.skip, connection.trust.server_name) == (True, "inside.example.org")
    assert connection.proxy == "http://proxy.example.org:3128"


def test_impersonation_is_sent_as_headers(tmp_path):
    user = {"token": "t", "as": "dana", "as-groups": ["devs", "seniors"]}
    assert read(config(tmp_path, user=user)).identity.impersonate == (
        ("Impersonate-User", "dana"),
        ("Impersonate-Group", "devs"),
        ("Impersonate-Group", "seniors"),
    )


def test_what_only_the_kubernetes_package_knows_is_named(tmp_path):
    assert read(config(tmp_path, user={"auth-provider": {"name": "gcp"}})).unknown == "auth-provider"


def test_a_pod_without_a_kubeconfig_uses_its_own_account(tmp_path):
    environment = {
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "443",
        "HOME": str(tmp_path),
    }
    (tmp_path / "ca.crt").write_text("CA")
    (tmp_path / "namespace").write_text("shop\n")
    connection = read_connection(Access(), environment, tmp_path)
    assert (connection.server, connection.namespace) == ("https://[fd00::1]:443", "shop")
    assert (connection.trust.ca, connection.identity.token_file) == (b"CA", str(tmp_path / "token"))


CONTEXT = "current-context: x\ncontexts: [{name: x, context: {cluster: y}}]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not YAML"),
        ("[]", "no current context"),
        ("current-context: x", "has no context 'x'; it has: none"),
        (CONTEXT, "has no cluster 'y'"),
        (
            CONTEXT + "clusters: [{name: y, cluster: {server: z}}]",
            "is not a URL: 'z'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_what_is_wrong(tmp_path, text, says):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(RefusedError) as caught:
        read(str(path))
    assert says in str(caught.value)
    assert caught.value.code == "CAN-1002"


def test_no_file_at_all_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(RefusedError, match="no kubeconfig found at"):
        read_connection(Access(), {"HOME": str(tmp_path)})


PLUGIN = """
import json, os, sys
asked = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert asked["kind"] == "ExecCredential" and asked["spec"]["cluster"]["server"] == "https://here"
print(json.dumps({"apiVersion": asked["apiVersion"], "status": {"token": os.environ["WORD"] + sys.argv[1]}}))
"""


def plugin(tmp_path, text):
    path = tmp_path / "plugin.py"
    path.write_text(text)
    env = [{"name": "WORD", "value": "secret-"}]
    return {"command": sys.executable, "args": [str(path), "7"], "env": env, "installHint": "install it"}


def test_a_plugin_is_asked_with_its_arguments_and_environment(tmp_path):
    assert ask_plugin(plugin(tmp_path, PLUGIN), "https://here").token == "secret-7"


@pytest.mark.parametrize(
    "text", ["raise SystemExit(3)", "print('no json')", "print('{}')", f"print({json.dumps('[1]')!r})"]
)
def test_a_plugin_that_fails_says_how_to_get_it(tmp_path, text):
    with pytest.raises(UnavailableError, match="install it"):
        ask_plugin(plugin(tmp_path, text), "https://here")


def test_a_plugin_that_is_not_installed_is_unavailable():
    with pytest.raises(UnavailableError, match="no-such-plugin"):
        ask_plugin({"command": "no-such-plugin"}, "https://here")
