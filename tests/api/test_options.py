"""Options come from flags and from the environment; the flag wins; roles get the same through the environment."""

import pytest

from api.arguments import parse
from api.errors import LaunchError
from api.options import Options


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_default() -> None:
    environment = {"MILLPOND_PORT": "9000", "MILLPOND_MAX_NUM_SEQS": "7"}
    options = parse("serve", ["--port", "9001"], environment).options
    assert (options.port, options.max_num_seqs, options.api_workers) == (9001, 7, 1)


def test_a_wrong_variable_is_named_by_its_flag() -> None:
    with pytest.raises(LaunchError, match="--port cannot be 'x'"):
        parse("serve", [], {"MILLPOND_PORT": "x"})


def test_options_survive_the_way_to_a_role() -> None:
    options = parse("serve", ["--model", "m", "--max-model-len", "99", "--log-format", "json"], {}).options
    assert Options.from_environment(options.environment()) == options


def test_a_switch_is_on_when_it_is_named_and_in_the_environment_by_a_word() -> None:
    assert not parse("serve", [], {}).options.trust_request_chat_template
    for arguments, environment in (
        (["--trust-request-chat-template"], {}),
        ([], {"MILLPOND_TRUST_REQUEST_CHAT_TEMPLATE": "1"}),
        ([], {"MILLPOND_TRUST_REQUEST_CHAT_TEMPLATE": "true"}),
    ):
        options = parse("serve", arguments, environment).options
        assert options.trust_request_chat_template
        assert Options.from_environment(options.environment()) == options
    with pytest.raises(LaunchError, match="--trust-request-chat-template cannot be 'perhaps'"):
        parse("serve", [], {"MILLPOND_TRUST_REQUEST_CHAT_TEMPLATE": "perhaps"})


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        (
            "--webhook-secret",
            "whsec_c2hvcnQ=",
            "--webhook-secret cannot be what was given: a secret is whsec_ and the base64",
        ),
        ("--webhook-allow", "10.0.0.1/8", "--webhook-allow cannot be .*'10.0.0.1/8' is no address or network"),
        ("--webhook-allow", "http://receiver/", "--webhook-allow cannot be .*'http://receiver/' is no host name"),
    ],
)
def test_a_wrong_option_of_webhooks_is_one_sentence_and_repeats_no_secret(flag: str, value: str, sentence: str) -> None:
    with pytest.raises(LaunchError, match=sentence) as refused:
        parse("serve", [flag, value], {})
    assert "c2hvcnQ" not in str(refused.value)


def test_every_option_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("serve", ["--help"], {})
    shown = capsys.readouterr().out
    for name, field in Options.model_fields.items():
        assert "--" + name.replace("_", "-") in shown
        assert f"[MILLPOND_{name.upper()}]" in shown
        assert field.description
