from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkd.text.redaction import is_redacted, redacted_setting, redacted_text, redacted_uri

URIS = [
    # User and password before the host.
    ("postgresql://me:pw@db:5432/x", "postgresql://***@db:5432/x"),
    ("postgresql://me:p@w@db:5432/x", "postgresql://***@db:5432/x"),
    ("postgresql://me:p/w@db/x", "postgresql://***@db/x"),
    ("postgresql://me:p?w#x@db/x", "postgresql://***@db/x"),
    ("postgresql://me:p%40w%2F@db/x", "postgresql://***@db/x"),
    ("postgresql+psycopg2://me:pw@db/x", "postgresql+psycopg2://***@db/x"),
    ("postgresql:///me:pw@db/x", "postgresql:///***@db/x"),
    ("HTTPS://ME:PW@HOST", "HTTPS://***@HOST"),
    ("http://me@host:5000", "http://***@host:5000"),
    ("http://:pw@host:5000", "http://***@host:5000"),
    ("http://me:pw@[::1]:5000/#top", "http://***@[::1]:5000/#top"),
    ("me:pw@host:5000", "***@host:5000"),
    ("me:p/w@host", "***@host"),
    ("http%3A%2F%2Fme%3Apw%40host%2Fx", "http%3A%2F%2F***%40host%2Fx"),
    # Secrets in the query or the fragment.
    ("http://h:5000/?user=me&password=pw&a=b", "http://h:5000/?user=me&password=***&a=b"),
    ("mysql://h/x?ssl_PASSWORD=pw", "mysql://h/x?ssl_PASSWORD=***"),
    ("http://h/?api_key=k&API-KEY=k&apikey=k&key=k", "http://h/?api_key=***&API-KEY=***&apikey=***&key=***"),
    ("http://h/?access_token=t&client_secret=s&sig=s", "http://h/?access_token=***&client_secret=***&sig=***"),
    ("http://h/?passwd=p&pwd=p&pass=p&passphrase=p", "http://h/?passwd=***&pwd=***&pass=***&passphrase=***"),
    ("http://h/?pass%77ord=pw", "http://h/?pass%77ord=***"),
    # Encoded letters in a name that is no secret's without decoding; encoded twice.
    ("http://h/?t%6Fken=t", "http://h/?t%6Fken=***"),
    ("http://h/?t%256Fken=t", "http://h/?t%256Fken=***"),
    ("http%253A%252F%252Fme%253Apw%2540h", "http%253A%252F%252F***%2540h"),
    ("http://h/?next=http%253A%252F%252Fh%253Ftoken%253Dt", "http://h/?next=http%253A%252F%252Fh%253Ftoken%253D***"),
    (
        "s3://b/k?X-Amz-Credential=c%2F1&X-Amz-Signature=s&X-Amz-Security-Token=t&X-Amz-Date=1",
        "s3://b/k?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Security-Token=***&X-Amz-Date=1",
    ),
    ("http://h/?jwt=t&a=1", "http://h/?jwt=***&a=1"),
    ("http://h/x;token=t", "http://h/x;token=***"),
    ("http://h/x;jsessionid=t", "http://h/x;jsessionid=***"),
    ("https://a.blob.core/c?sv=2&sig=s%3D", "https://a.blob.core/c?sv=2&sig=***"),
    ("mssql:///?odbc_connect=UID%3Dme%3BPWD%3Dpw", "mssql:///?odbc_connect=UID%3Dme%3BPWD%3D***"),
    ("http://h/?password=a%26b#c;d", "http://h/?password=***"),
    ("http://h/?a=b;password=pw", "http://h/?a=b;password=***"),
    ("http://h/#id_token=t", "http://h/#id_token=***"),
    ("http://h/?next=%2Fx%3Ftoken%3Dt", "http://h/?next=%2Fx%3Ftoken%3D***"),
    ("http://me:pw@h/?token=t", "http://***@h/?token=***"),
    ("sqlite:///x.db?password=p@w", "sqlite:///x.db?password=***"),
    # No secret.
    ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ("sqlite:////srv/a:b@c/mlflow.db", "sqlite:////srv/a:b@c/mlflow.db"),
    ("sqlite+pysqlite:////home/me@work/mlflow.db", "sqlite+pysqlite:////home/me@work/mlflow.db"),
    ("SQLITE:////home/me@work/mlflow.db", "SQLITE:////home/me@work/mlflow.db"),
    ("file:///home/me@work/mlruns", "file:///home/me@work/mlruns"),
    ("file:/home/me@work/mlruns", "file:/home/me@work/mlruns"),
    ("runs/me@work", "runs/me@work"),
    ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ("http://h:5000/?page=2#top", "http://h:5000/?page=2#top"),
]


@pytest.mark.parametrize(("uri", "redacted"), URIS)
def test_uri_and_text_that_quotes_it(uri: str, redacted: str) -> None:
    assert redacted_uri(uri) == redacted
    text = f"request to \"{uri}\" failed; then '{uri}' and {uri} , a@b.c"
    assert redacted_text(text) == f"request to \"{redacted}\" failed; then '{redacted}' and {redacted} , a@b.c"


@pytest.mark.parametrize(("uri", "redacted"), URIS)
def test_redacted_uri_is_recognised_and_stays(uri: str, redacted: str) -> None:
    assert redacted_uri(redacted) == redacted
    assert is_redacted(redacted) == (uri != redacted)
    assert not is_redacted(uri)


def test_space_and_quote_in_password_of_uri() -> None:
    assert redacted_uri("http://me:a 'b@host") == "http://***@host"
    assert redacted_uri("http://host/?password=a 'b") == "http://host/?password=***"


def test_file_uri_before_one_with_password() -> None:
    text = "sqlite:////home/me@work/a.db,http://me:pw@host"
    assert redacted_text(text) == "sqlite:////home/me@work/a.db,http://***@host"


def test_every_uri_of_text_is_redacted() -> None:
    shown = redacted_text("http://a:one@h1,http://b:two@h2 (http://c:three@h3)\nhttp://d:four@h4?token=five")
    assert not any(secret in shown for secret in ("one", "two", "three", "four", "five"))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("host=db user=me password=pw dbname=x", "host=db user=me password=*** dbname=x"),
        ("MLFLOW_TRACKING_TOKEN = abc", "MLFLOW_TRACKING_TOKEN = ***"),
        ("{'password': 'p w', 'a': 1}", "{'password': '***', 'a': 1}"),
        ('{"api_key":"k","a":1}', '{"api_key":"***","a":1}'),
        (r'{"password": "p\"w", "a": 1}', '{"password": "***", "a": 1}'),
        ("{'password' => 'pw'}, password => pw", "{'password' => '***'}, password => ***"),
        ("{b'token': b'abc'}", "{b'token': b'***'}"),
        ("Authorization: Bearer abc.def failed", "Authorization: *** failed"),
        ("Authorization: Digest abc failed", "Authorization: *** failed"),
        ("Authorization: Token abc, x-api-key: k", "Authorization: *** x-api-key: ***"),
        ("{'Authorization': b'Basic abc'}", "{'Authorization': b'***'}"),
        ("secret: s3cr3t", "secret: ***"),
        ("secret: bcd", "secret: ***"),
        ('password="p w\\" failed', 'password="***" failed'),
        ('password="pw failed', 'password="***" failed'),
        ("--set tracking.uri=me:pw@host", "--set tracking.uri=***@host"),
        ("(me:pw@host)", "(***@host)"),
        ("curl -H 'Authorization: Basic abc' h", "curl -H 'Authorization: ***' h"),
        ('{"Authorization": ["Bearer abc"]}', '{"Authorization": ["***"]}'),
        ("Set-Cookie: a=b; sid=c\nnext", "Set-Cookie: ***\nnext"),
        ("sent Bearer abc.d3f, failed", "sent Bearer ***, failed"),
        ("sent bearer hunter2", "sent bearer ***"),
        # me:pw in base64.
        ("sent Basic bWU6cHc=", "sent Basic ***"),
        ("curl -u me:pw http://h, --user me:pw", "curl -u *** http://h, --user ***"),
        ("x --password hunter2 --verbose", "x --password *** --verbose"),
        ("x --tracking-token 'a b' --api-key=k", "x --tracking-token '***' --api-key=***"),
        ("['--password', 'hunter2']", "['--password', '***']"),
        ("AWS_SECRET_ACCESS_KEY=k AWS_SESSION_TOKEN=t", "AWS_SECRET_ACCESS_KEY=*** AWS_SESSION_TOKEN=***"),
        ("MLFLOW_TRACKING_PASSWORD=hunter2", "MLFLOW_TRACKING_PASSWORD=***"),
        ("jwt: abc, pw=abc", "jwt: *** pw=***"),
        ("password='it''s' a=1", "password='***' a=1"),
        ("token%3Dabc", "token%3D***"),
        ("AccountKey=abc==;EndpointSuffix=x", "AccountKey=***"),
        ("found eyJhbGciOiJI.eyJzdWIi.c2ln", "found ***"),
        ("found hf_abcdefghijklmnop1234", "found ***"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- x",
            "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY----- x",
        ),
        # Nothing to hide.
        ("num_tokens=512, tokens: 512", "num_tokens=512, tokens: 512"),
        ("tokenizer: bert, secretary: me", "tokenizer: bert, secretary: me"),
        ("password_file=/a/b --token-file /a/b", "password_file=/a/b --token-file /a/b"),
        ("the token is missing; a bearer of news", "the token is missing; a bearer of news"),
        ('Bearer token missing: Bearer realm="x"', 'Bearer token missing: Bearer realm="x"'),
        ("basic settings, Basic idea", "basic settings, Basic idea"),
        ("monkey=1, key: value, keyboard=us", "monkey=1, key: value, keyboard=us"),
        ("compass: north, bypass=true, author: Jane", "compass: north, bypass=true, author: Jane"),
        ("the password is missing", "the password is missing"),
        ("KeyError: 'training.total_epochs'", "KeyError: 'training.total_epochs'"),
        ("mail a@b.c, clone git@host:x/y", "mail a@b.c, clone git@host:x/y"),
    ],
)
def test_secrets_in_text_without_uri(text: str, redacted: str) -> None:
    assert redacted_text(text) == redacted


@pytest.mark.parametrize(
    ("uri", "text", "redacted"),
    [
        # A space ends a URI in a text, unless the URI is known.
        ("http://me:a b@h", "cannot open http://me:a b@h.", "cannot open http://***@h."),
        # urllib3 quotes what it takes for a port.
        ("http://me:p/w@h", "port 'p' is not a number", "port '***' is not a number"),
        # The last @ may be one of the path.
        ("http://me:hunter2@h/x@y", "port 'hunter2' is not a number", "port '***' is not a number"),
        ("http://me:hunt%2Fer@h", "authentication with hunt/er failed", "authentication with *** failed"),
        ("http://h/?token=abcd", "the server refuses abcd", "the server refuses ***"),
        ("sqlite:////home/me@work/x.db", "no such table in /home/me@work/x.db", "no such table in /home/me@work/x.db"),
    ],
)
def test_secrets_of_known_uri_in_text(uri: str, text: str, redacted: str) -> None:
    assert redacted_text(text, uri) == redacted


def test_setting_with_secret_name() -> None:
    assert redacted_setting("storage.password", "pw") == "***"
    assert redacted_setting("tracking.uri", "http://me:pw@h") == "http://***@h"
    assert redacted_setting("student.backbone", "resnet18") == "resnet18"


@pytest.mark.parametrize("uri", [":pw@host:5000", "(:pw@host)", "://:pw@host", "':a@b@c"])
def test_uri_without_user_stays_after_redaction(uri: str) -> None:
    assert redacted_uri(redacted_uri(uri)) == redacted_uri(uri)
    assert "pw" not in redacted_uri(uri)


@pytest.mark.parametrize(
    "word",
    ["a", "token", "key.", "-+1", "?token=", "http%3a%2f%2f", "--token ", "a:b@", "bearer ", "%25", "password='a", "'"],
)
def test_long_text_is_redacted_in_linear_time(word: str) -> None:
    # Quadratic time would be minutes.
    text = word * (400_000 // len(word))
    started = time.monotonic()
    redacted_uri(text)
    redacted_text(text)
    assert time.monotonic() - started < 10


WORDS = (
    "the",
    "a",
    "token",
    "tokens",
    "password",
    "of",
    "is",
    "secret",
    "key",
    "monkey",
    "bearer",
    "basic",
    "author",
    "pass",
    "compass",
    "user",
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, "3", "0.5", "trial-001", "student.width_multiplier", "/home/me/x.json"])))
def test_ordinary_sentence_stays(words: list[str]) -> None:
    # Except the word after "bearer", which may be a token.
    sentence = " ".join(words).replace("bearer", "bearer of")
    assert redacted_text(sentence) == sentence


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(
        ["password", "DB_PASSWD", "api-key", "x.access_token", "Secret", "private_key", "jwt", "AWS_SECRET_ACCESS_KEY"]
    ),
    separator=st.sampled_from(["=", ": ", " = ", "' : '", '": "', "=>", "%3D", "%253d"]),
    before=st.sampled_from(["", " ", "x ", "{'", "(", "http://h/?", "http://h/?a=1&", "export ", "--", "a.b."]),
    secret=st.text("aZ9/+=.-_:!$%^*", max_size=4).map(lambda text: text + "hunter2" + text),
    after=st.sampled_from(["", " x", "'}", '"', "\nnext"]),
)
def test_named_secret_is_removed_wherever_it_stands(
    name: str, separator: str, before: str, secret: str, after: str
) -> None:
    text = f"{before}{name}{separator}{secret}{after}"
    shown = redacted_text(text)
    assert "hunter2" not in shown
    assert redacted_text(shown) == shown


@settings(max_examples=300, deadline=None)
@given(
    before=st.text("aZ9@:/?#%&=;,.+~", max_size=6),
    after=st.text("aZ9@:/?#%&=;,.+~", max_size=6),
    scheme=st.sampled_from(["http://", "HTTPS://", "postgresql+psycopg2://", "mssql:///", "s3://", ""]),
    host=st.sampled_from(["host", "host:5000/a?b=c", "127.0.0.1/x@y", "[::1]:80/#f"]),
)
def test_password_of_any_characters_is_removed(before: str, after: str, scheme: str, host: str) -> None:
    uri = f"{scheme}me:{before}hunter2{after}@{host}"
    assert "hunter2" not in redacted_uri(uri)
    # A study's file has the redacted URI, which is redacted again when the study is resumed.
    assert redacted_uri(redacted_uri(uri)) == redacted_uri(uri)
    assert "hunter2" not in redacted_text(f"cannot open {uri}: refused")
    assert "hunter2" not in redacted_text(f"cannot open '{uri}'; is sqlite:////a@b/c there?")
