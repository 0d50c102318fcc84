"""Keys: how the file is read, changed and watched, and whom the keyring lets in."""

import asyncio
import hmac
import logging
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.arguments import parse
from api.authenticating import presented_keys
from api.callers import ANONYMOUS, Caller
from api.errors import ApiError, LaunchError
from api.exposure import Door
from api.keyfile import KeyEntry, add_entry, digest_of, new_key, read_key_file, remove_entry
from api.keyring import Keyring
from api.keys_command import keys
from api.options import Options
from scheduler.keys import Lane
from tests.api.webhooks.receiving import until


def entry_of(key: str, **fields: object) -> KeyEntry:
    return KeyEntry.model_validate({"sha256": digest_of(key.encode()).hex(), **fields})


def refusal(keyring: Keyring, *presented: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        keyring.caller_of([key.encode() for key in presented])
    return caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_without_keys_everyone_is_let_in_whatever_they_send(path: Path) -> None:
    keyring = Keyring([], path, required=False)
    assert keyring.caller_of([]) is ANONYMOUS
    assert keyring.caller_of([b"anything"]) is ANONYMOUS


def test_given_keys_have_full_rights_and_others_none(path: Path) -> None:
    keyring = Keyring(["one", "two"], path, required=False)
    assert keyring.caller_of([b"two"]) == Caller("api-key:2")
    missing, wrong = refusal(keyring), refusal(keyring, "three")
    assert (missing.status, missing.code) == (wrong.status, wrong.code) == (401, "invalid_api_key")
    assert missing.message != wrong.message
    assert missing.headers == wrong.headers == {"WWW-Authenticate": "Bearer"}
    assert "three" not in wrong.message


def test_every_key_is_compared_in_constant_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, compare = [], hmac.compare_digest

    def noted(known: bytes, digest: bytes) -> bool:
        compared.append(known)
        return compare(known, digest)

    for name in ("a", "b", "c"):
        add_entry(path, name, entry_of(name))
    keyring = Keyring(["given"], path, required=True)
    monkeypatch.setattr(hmac, "compare_digest", noted)
    assert keyring.caller_of([b"a"]).name == "a"
    assert compared == [digest_of(each) for each in (b"given", b"a", b"b", b"c")]


def test_rights_and_limits_come_from_the_file(path: Path) -> None:
    entry = entry_of("k", models=["m"], lanes=["bulk"], tokens_per_minute=9, concurrency=2, weight=3)
    add_entry(path, "alice", entry)
    caller = Keyring([], path, required=True).caller_of([b"k"])
    assert caller == Caller("alice", frozenset({"m"}), frozenset({Lane.BULK}), 9, 2, 3)
    caller.check_model("m")
    caller.check_lane(Lane.BULK)
    for check, code in ((lambda: caller.check_model("n"), "model"), (lambda: caller.check_lane(Lane.JOB), "lane")):
        with pytest.raises(ApiError, match="alice") as caught:
            check()
        assert (caught.value.status, caught.value.code) == (403, f"{code}_not_allowed")


def test_added_keys_are_let_in_and_revoked_ones_refused_from_the_next_call_on(path: Path) -> None:
    keyring = Keyring([], path, required=False)
    assert keyring.caller_of([]) is ANONYMOUS
    add_entry(path, "a", entry_of("ka"))
    assert refusal(keyring).status == 401, "the first key closes the door"
    add_entry(path, "b", entry_of("kb"))
    assert [keyring.caller_of([key]).name for key in (b"ka", b"kb")] == ["a", "b"]
    remove_entry(path, "a")
    remove_entry(path, "b")
    assert refusal(keyring, "ka").status == 401
    assert read_key_file(path) == {}, "a file without keys lets nobody in"


def test_a_key_ends_at_its_time(path: Path) -> None:
    add_entry(path, "over", entry_of("k", expires=datetime.now(UTC) - timedelta(seconds=1)))
    add_entry(path, "young", entry_of("l", expires=datetime.now(UTC) + timedelta(days=1)))
    keyring = Keyring([], path, required=True)
    assert "'over' ended at" in refusal(keyring, "k").message
    assert keyring.caller_of([b"l"]).name == "young"


@pytest.mark.parametrize("damage", [lambda p: p.write_text("[keys"), lambda p: p.unlink(), lambda p: p.chmod(0o666)])
def test_a_broken_file_leaves_the_last_keys_in_force_and_says_so_once(
    path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(damage)
    add_entry(path, "a", entry_of("ka"))
    keyring = Keyring([], path, required=False)
    # From before the first look: that it read the keys is said too, where the log takes it.
    with caplog.at_level(logging.ERROR):
        keyring.caller_of([b"ka"])
        damage(path)
        for _ in range(3):
            assert keyring.caller_of([b"ka"]).name == "a"
            assert refusal(keyring).status == 401
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    path.unlink(missing_ok=True)
    add_entry(path, "b", entry_of("kb"))
    assert keyring.caller_of([b"kb"]).name == "b"
    assert refusal(keyring, "ka").status == 401


def test_a_process_that_starts_with_a_broken_file_lets_in_only_given_keys(path: Path) -> None:
    path.write_text("[keys")
    keyring = Keyring(["given"], path, required=False)
    assert keyring.caller_of([b"given"]).name == "api-key:1"
    assert refusal(keyring, "other").status == 503, "it may be a good key"
    gone = Keyring([], path.with_name("gone.toml"), required=True)
    assert refusal(gone, "other").status == 503


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("keys = 3", "wrong at keys"),
        ("[keys.a]\n", r"wrong at keys\.a\.sha256"),
        ("[keys.a]\nsha256 = 'abc'", r"wrong at keys\.a\.sha256"),
        (f"[keys.a]\nsha256 = '{'0' * 64}'\nmodel = 'm'", r"wrong at keys\.a\.model"),
        (f"[keys.a]\nsha256 = '{'0' * 64}'\nmodels = []", r"wrong at keys\.a\.models"),
        (f"[keys.a]\nsha256 = '{'0' * 64}'\nlanes = ['fast']", r"wrong at keys\.a\.lanes.*'interactive'"),
        (f"[keys.a]\nsha256 = '{'0' * 64}'\nconcurrency = 0", r"wrong at keys\.a\.concurrency"),
        (f"[keys.'a b']\nsha256 = '{'0' * 64}'", "wrong at keys"),
        (f"[keys.a]\nsha256 = '{'0' * 64}'\n[keys.b]\nsha256 = '{'0' * 64}'", "the same sha256"),
        ("[keys.a\n", "is not TOML.*line 1"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(path: Path, text: str, sentence: str) -> None:
    path.write_text(text)
    with pytest.raises(LaunchError, match=sentence):
        read_key_file(path)


def test_a_file_that_everyone_may_write_or_that_is_none_is_refused(path: Path, tmp_path: Path) -> None:
    add_entry(path, "a", entry_of("k"))
    path.chmod(0o602)
    with pytest.raises(LaunchError, match="chmod 600"):
        read_key_file(path)
    with pytest.raises(LaunchError, match="is not a file"):
        read_key_file(tmp_path)


def test_a_new_file_is_its_owners_alone_and_an_old_one_keeps_its_mode_and_links(path: Path, tmp_path: Path) -> None:
    add_entry(path, "a", entry_of("ka"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    link = tmp_path / "elsewhere"
    link.mkdir()
    (link / "keys.toml").symlink_to(path)
    add_entry(link / "keys.toml", "b", entry_of("kb"))
    assert (link / "keys.toml").is_symlink()
    assert set(read_key_file(path)) == {"a", "b"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["elsewhere", "keys.toml"], "nothing is left lying about"


def test_what_people_wrote_into_the_file_stays(path: Path) -> None:
    own = f"# ours\n[keys.a] # the first\nsha256 = '{'1' * 64}'\n\n# about b\n[keys.b]\nsha256 = '{'2' * 64}'\n"
    path.write_text(own)
    add_entry(path, "c", entry_of("kc", expires=datetime(2030, 1, 1, tzinfo=UTC), models=["é\"'\\"]))
    assert path.read_text().startswith(own)
    assert read_key_file(path)["c"].models == ("é\"'\\",)
    remove_entry(path, "a")
    assert path.read_text().startswith("# ours\n\n# about b\n[keys.b]")
    assert set(read_key_file(path)) == {"b", "c"}


def test_a_file_that_cannot_be_changed_safely_is_left_alone(path: Path) -> None:
    text = f"keys = {{ a = {{ sha256 = '{'1' * 64}' }} }}\n"
    path.write_text(text)
    with pytest.raises(LaunchError, match="change it by hand"):
        remove_entry(path, "a")
    assert path.read_text() == text


def test_the_command_adds_lists_and_revokes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ["--key-file", str(path)]
    limits = ["--models", "m,n", "--models", "o", "--lanes", "job", "--tokens-per-minute", "5", "--concurrency", "2"]
    limits += ["--weight", "3"]
    assert keys(["add", "alice", *file, *limits, "--expires", "2999-01-31"]) == 0
    key = capsys.readouterr().out.strip()
    entry = read_key_file(path)["alice"]
    assert entry.sha256 == digest_of(key.encode()).hex()
    assert key not in path.read_text()
    assert (entry.models, entry.lanes) == (("m", "n", "o"), (Lane.JOB,))
    assert (entry.tokens_per_minute, entry.concurrency, entry.weight) == (5, 2, 3)
    assert entry.expires == datetime(2999, 1, 31, tzinfo=UTC)
    assert keys(["list", *file]) == 0
    shown = capsys.readouterr().out.splitlines()
    limits = ["tokens_per_minute", "concurrency", "weight"]
    assert shown[0].split() == ["name", "models", "lanes", *limits, "created", "expires"]
    assert shown[1].split()[:6] == ["alice", "m,n,o", "job", "5", "2", "3"]
    assert keys(["revoke", "alice", *file]) == 0
    assert read_key_file(path) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["add", "a b"], "cannot be called 'a b'"),
        (["add", "there"], "has a key 'there'"),
        (["add", "x", "--lanes", "fast"], "--lanes cannot be"),
        (["add", "x", "--concurrency", "-1"], "--concurrency"),
        (["add", "x", "--weight", "101"], "--weight"),
        (["add", "x", "--tokens-per-minute", "many"], "--tokens-per-minute cannot be 'many'"),
        (["add", "x", "--expires", "soon"], "--expires cannot be 'soon'"),
        (["add", "x", "--expires", "2020-01-01"], "which is past"),
        (["revoke", "x"], "has no key 'x': its keys are there"),
        (["forget", "x"], "its actions are add, list, revoke"),
    ],
)
def test_the_command_says_what_is_wrong(path: Path, arguments: list[str], sentence: str) -> None:
    add_entry(path, "there", entry_of("k"))
    with pytest.raises(LaunchError, match=sentence):
        keys([*arguments, "--key-file", str(path)])
    assert set(read_key_file(path)) == {"there"}


def test_keys_are_random_and_marked() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("mp-") and len(key) == 46 for key in made)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"authorization", b"Bearer k")], [b"k"]),
        ([(b"authorization", b"bearer   k ")], [b"k"]),
        ([(b"authorization", b"Basic k")], []),
        ([(b"authorization", b"Bearer ")], []),
        ([(b"x-api-key", b"k"), (b"api-key", b"l"), (b"authorization", b"Basic x")], [b"k", b"l"]),
    ],
)
def test_keys_are_found_where_clients_put_them(headers: list[tuple[bytes, bytes]], found: list[bytes]) -> None:
    assert presented_keys(headers) == found


def test_options_take_several_keys_and_tell_them_to_nobody(path: Path) -> None:
    options = parse("serve", ["--api-key", "a,b", "--api-key", "c", "--key-file", str(path)], {}).options
    assert [key.get_secret_value() for key in options.api_key] == ["a", "b", "c"]
    assert not {"a", "b", "c", "MILLPOND_API_KEY"} & {*options.environment(), *options.environment().values()}
    assert parse("api", [], {"MILLPOND_API_KEY": "a, b"}).options.api_key == options.api_key[:2]
    assert "hushed" not in repr(Options.checked({"api_key": "hushed"}))
    with pytest.raises(LaunchError, match="--api-key cannot be what was given") as caught:
        parse("serve", ["--api-key", "sec ret"], {})
    assert "sec ret" not in str(caught.value)


def test_listening_beyond_loopback_needs_a_key_or_a_word(path: Path) -> None:
    nothing = Options(data_dir=path.parent)
    for address in ("127.0.0.1", "127.8.9.1", "::1"):
        Door.of(nothing).check(address)
    for address in ("0.0.0.0", "::", "192.168.1.2", "::ffff:10.0.0.1"):
        with pytest.raises(LaunchError, match=r"--api-key or --key-file.*--insecure"):
            Door.of(nothing).check(address)
    insecure = Door.of(Options(data_dir=path.parent, insecure=True))
    insecure.check("0.0.0.0")
    assert insecure.told("0.0.0.0").startswith("WARNING")
    Door.of(Options.checked({"data_dir": path.parent, "api_key": "k"})).check("0.0.0.0")
    add_entry(path, "a", entry_of("k"))
    door = Door.of(nothing)
    door.check("0.0.0.0")
    assert door.environment == {"MILLPOND_KEY_FILE": str(path)}


def test_a_key_file_that_was_named_and_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(LaunchError, match=f"There is no key file {path}: `millpond keys add"):
        Door.of(Options(key_file=path))


def test_a_process_that_nobody_calls_sees_changes_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("api.keyring.LOOK_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "api.keyring")
    add_entry(path, "mine", entry_of("mine"))
    add_entry(path, "theirs", entry_of("theirs"))

    keyring = Keyring([], path, required=True)

    async def watched() -> None:
        watching = asyncio.create_task(keyring.watch())
        await until(lambda: "in force: 2" in caplog.text)
        remove_entry(path, "theirs")
        await until(lambda: "in force: 1" in caplog.text)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(watched())
    path.write_text("[keys")
    assert keyring.caller_of([b"mine"]).name == "mine"
    assert refusal(keyring, "theirs").status == 401
