import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ragjob.engines.base import Completion, Failure, Request
from ragjob.engines.openai.client import OpenAIClient, check_api
from ragjob.errors import DataError, DependencyError, RagjobError
from tests.engines.openai.fake_api import Asked, FakeAPI, Reply, completion, echo, refusal, serve
from tests.faults import Fault, Harm, cut, proxy, refuse, reset, stall
from tests.services import free_port

VARIABLE, KEY = "A_KEY_OF_OURS", "sk-a-key-of-ours"


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with serve() as running:
        yield running


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, KEY)
    return KEY


def client(url: str, *, concurrency: int = 8, timeout_s: float = 60, max_new_tokens: int = 16) -> OpenAIClient:
    settings = {"model": "tiny", "api_key_env": VARIABLE, "temperature": 0.5}
    return OpenAIClient(
        base_url=url, concurrency=concurrency, timeout_s=timeout_s, max_new_tokens=max_new_tokens, **settings
    )


def ask(url: str, prompts: list[str], **settings: float) -> list[Completion | Failure]:
    with closing(client(url, **settings)) as engine:
        return engine.generate([request(prompt) for prompt in prompts])


def request(prompt: str) -> Request:
    return Request("Be brief.", prompt, prompt, [])


def check(url: str, timeout_s: float = 60) -> str:
    return check_api(model="tiny", base_url=url, api_key_env=VARIABLE, timeout_s=timeout_s)


def echoed(prompts: list[str]) -> list[Completion]:
    return [Completion(f"echo {prompt}", "stop", 7, 3) for prompt in prompts]


def numbered(count: int) -> list[str]:
    """As many prompts, in an order that isn't the alphabet's."""
    prompts = [f"prompt {number}" for number in range(count)]
    random.Random(0).shuffle(prompts)
    return prompts


def assert_one_line(error: RagjobError, *parts: str) -> None:
    assert [part for part in parts if part not in str(error)] == []
    assert len(str(error).splitlines()) == 1
    assert KEY not in "".join(traceback.format_exception(error))


def test_answers_come_in_the_order_of_the_prompts(api: FakeAPI) -> None:
    prompts = numbered(100)
    assert ask(api.url, prompts) == echoed(prompts)


def test_no_prompts_get_no_answers(api: FakeAPI) -> None:
    assert ask(api.url, []) == []


def test_a_request_holds_the_messages_and_the_settings(api: FakeAPI) -> None:
    ask(api.url, ["Where does the tram stop?"], max_new_tokens=5)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where does the tram stop?"},
    ]
    assert api.asked[0].body == {"model": "tiny", "messages": messages, "max_tokens": 5, "temperature": 0.5}


def test_an_empty_system_prompt_is_no_message(api: FakeAPI) -> None:
    with closing(client(api.url)) as engine:
        engine.generate([Request("", "Where does the tram stop?", "", [])])
    assert [message["role"] for message in api.asked[0].body["messages"]] == ["user"]


CONTROLS = ["<|im_start|>", "<\uff5cUser\uff5c>", "</s>", "[/INST]", "<end_of_turn>", "<|START_OF_TURN_TOKEN|>"]


def test_no_control_token_of_a_known_kind_is_sent_in_a_message(api: FakeAPI) -> None:
    ask(api.url, [f"stop {token} here" for token in CONTROLS], concurrency=1)
    sent = {asked.user for asked in api.asked}
    assert sent == {f"stop {token[0]} {token[1:]} here" for token in CONTROLS}


def test_text_with_other_brackets_is_sent_as_it_is(api: FakeAPI) -> None:
    text = "if a <| b |> c < d, then <strong>[1]</strong> <| x y |> [INSTANCE] <section>"
    ask(api.url, [text])
    assert api.users() == [text]


def test_control_tokens_of_the_settings_template_are_sent(api: FakeAPI) -> None:
    with closing(client(api.url)) as engine:
        engine.generate([Request("", "<|user|>Why?", "Why?", [], "<|user|>")])
    assert api.users() == ["<|user|>Why?"]


def test_prompts_that_begin_alike_are_asked_one_after_the_other(api: FakeAPI) -> None:
    prompts = numbered(20)
    ask(api.url, prompts, concurrency=1)
    assert api.users() == sorted(prompts)


def test_as_many_requests_as_allowed_are_open_at_once_and_no_more_whatever_threads_ask(api: FakeAPI) -> None:
    api.delay_s = 0.05
    blocks = [[f"{block}.{number}" for number in range(12)] for block in range(3)]
    with closing(client(api.url, concurrency=5)) as engine, ThreadPoolExecutor(3) as threads:
        answers = threads.map(engine.generate, [[request(prompt) for prompt in block] for block in blocks])
        assert list(answers) == [echoed(block) for block in blocks]
    assert api.peak == 5


def test_connections_are_kept_for_the_next_requests(api: FakeAPI) -> None:
    ask(api.url, numbered(100), concurrency=4)
    assert len(api.connections) <= 4


def in_a_moment() -> str:
    """A second from now at least: dates are in whole seconds, and the request takes a while to come."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)


@pytest.mark.parametrize("asked", [lambda: "1", in_a_moment], ids=["seconds", "date"])
def test_the_pause_that_the_api_asks_for_is_kept(api: FakeAPI, asked: Callable[[], str]) -> None:
    busy = refusal(429, "slow down", Retry_After=asked())
    replies = iter([busy, completion("at last")])
    api.reply = lambda _: next(replies)
    assert [answer.text for answer in ask(api.url, ["a"])] == ["at last"]
    assert api.asked[1].at - api.asked[0].at >= 0.9


HARMS = {
    "429": refuse(429, "SlowDown"),
    "503": refuse(503, "Unavailable"),
    "500": refuse(500, "Internal"),
    "reset": reset(),
    "reset within the answer": reset(after=20),
    "cut": cut,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_with_a_quarter_of_the_requests_harmed_each_prompt_is_answered_once(api: FakeAPI, harm: Harm) -> None:
    prompts = numbered(60)
    with proxy(api.url.removesuffix("/v1"), Fault(harm, every=4)) as harmed:
        assert ask(f"{harmed.url}/v1", prompts) == echoed(prompts)
    assert len(harmed.seen) == 60 + 19


def test_a_connection_that_died_silently_leaves_time_for_another(api: FakeAPI) -> None:
    with proxy(api.url.removesuffix("/v1"), Fault(stall, times=1)) as harmed:
        assert ask(f"{harmed.url}/v1", ["a"], timeout_s=20) == echoed(["a"])


@pytest.mark.parametrize(
    "page",
    [
        Reply(200, "<html>starting</html>", {"Content-Type": "text/html"}),
        Reply(200, '{"choices": [{"mess'),
        Reply(200, {"error": {"message": "upstream is away", "code": 502}}),
        Reply(200, [1]),
    ],
    ids=["page", "broken", "error", "list"],
)
def test_an_answer_that_is_no_completion_is_asked_for_again(api: FakeAPI, page: Reply) -> None:
    replies = iter([page, completion("at last")])
    api.reply = lambda _: next(replies)
    assert [answer.text for answer in ask(api.url, ["a"])] == ["at last"]


def test_an_api_that_is_away_for_too_long_ends_the_job_with_one_line() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(DependencyError) as caught:
        ask(url, numbered(20), timeout_s=1)
    assert_one_line(caught.value, f"generate.openai.base_url: {url} gave no answer for 1 s", "attempts", "timeout_s")


def test_an_api_that_is_away_for_a_while_has_all_prompts_answered_afterwards() -> None:
    prompts = numbered(40)
    port = free_port()
    with ExitStack() as stack:
        first = stack.enter_context(serve(port))
        first.delay_s = 0.1
        with closing(client(first.url, timeout_s=30)) as engine, ThreadPoolExecutor(1) as thread:
            answers = thread.submit(engine.generate, [request(prompt) for prompt in prompts])
            while len(first.asked) < 20:
                time.sleep(0.01)
            stack.close()
            time.sleep(1)
            with serve(port) as second:
                assert answers.result() == echoed(prompts)
    assert second.asked


def test_a_prompt_that_is_not_allowed_fails_alone_where_the_key_was_good_before(api: FakeAPI) -> None:
    api.reply = lambda asked: refusal(403, "flagged") if asked.user == "b" else echo(asked)
    a, b, c = ask(api.url, ["a", "b", "c"], concurrency=1)
    assert [a, c] == echoed(["a", "c"])
    assert b == Failure("the API answered 403 flagged")


def test_a_prompt_that_the_api_refuses_fails_alone_and_is_not_asked_again(api: FakeAPI) -> None:
    words = "too long: " + "word \n" * 100
    api.reply = lambda asked: refusal(400, words) if asked.user == "b" else echo(asked)
    a, b, c = ask(api.url, ["a", "b", "c"])
    assert [a, c] == echoed(["a", "c"])
    assert isinstance(b, Failure)
    assert b.error.startswith("the API answered 400 too long: word word")
    assert len(b.error) <= 320
    assert sorted(api.users()) == ["a", "b", "c"]


@pytest.mark.parametrize("body", [{"detail": "why"}, {"error": "why"}, {"object": "error", "message": "why"}, "why"])
def test_the_reason_is_found_in_errors_of_other_servers(api: FakeAPI, body: object) -> None:
    api.reply = lambda _: Reply(422, body)
    assert ask(api.url, ["a"]) == [Failure("the API answered 422 why")]


def test_a_prompt_that_the_api_fails_at_each_time_fails_alone(api: FakeAPI) -> None:
    api.reply = lambda asked: refusal(500, "engine bug") if asked.user == "b" else echo(asked)
    a, b = ask(api.url, ["a", "b"])
    assert [a] == echoed(["a"])
    assert b == Failure("the API answers other prompts but not this one; its last response: answered 500 engine bug")
    assert (api.users().count("b"), api.users().count("Hello")) == (6, 1)


@pytest.fixture
def silence(api: FakeAPI) -> Iterator[Callable[[Asked], Reply]]:
    """A reply that doesn't come before the test's end."""
    ended = threading.Event()

    def reply(asked: Asked) -> Reply:
        ended.wait()
        return echo(asked)

    yield reply
    ended.set()


def test_a_prompt_that_the_api_never_answers_fails_alone(api: FakeAPI, silence: Callable[[Asked], Reply]) -> None:
    api.reply = lambda asked: silence(asked) if asked.user == "b" else echo(asked)
    a, b = ask(api.url, ["a", "b"], timeout_s=2)
    assert [a] == echoed(["a"])
    assert isinstance(b, Failure)
    assert "answers other prompts but not this one; its last response: no answer within" in b.error


def test_an_api_that_answers_nothing_ends_the_job(api: FakeAPI, silence: Callable[[Asked], Reply]) -> None:
    api.reply = silence
    with pytest.raises(DependencyError) as caught:
        ask(api.url, ["a", "b"], timeout_s=2)
    assert_one_line(caught.value, "generate.openai.base_url", "last error: no answer within")


def test_an_api_that_fails_at_every_prompt_ends_the_job(api: FakeAPI) -> None:
    api.reply = lambda _: refusal(500, "engine\nbug")
    with pytest.raises(DependencyError) as caught:
        ask(api.url, ["a", "b"], timeout_s=2)
    assert_one_line(caught.value, "generate.openai.base_url", "answered 500 engine bug")


def test_a_wrong_key_names_its_variable_and_never_shows(api: FakeAPI, key: str) -> None:
    api.reply = lambda _: refusal(401, f"Incorrect API key provided: {key}")
    with pytest.raises(DependencyError) as caught:
        ask(api.url, ["a", "b"])
    assert_one_line(caught.value, "generate.openai.api_key_env", f"{VARIABLE} holds a key that may use 'tiny'")
    assert api.asked[0].headers["Authorization"] == f"Bearer {key}"


def test_a_key_without_the_right_to_the_model_names_its_variable(api: FakeAPI, key: str) -> None:
    api.reply = lambda _: refusal(403, f"{key} may not use tiny")
    with pytest.raises(DependencyError) as caught:
        ask(api.url, ["a"])
    assert_one_line(caught.value, "generate.openai.api_key_env", VARIABLE, "answered 403 *** may not use tiny")


def test_a_key_that_is_asked_for_and_not_there_is_told_so(api: FakeAPI) -> None:
    api.reply = lambda _: refusal(401, "no key")
    with pytest.raises(DependencyError) as caught:
        ask(api.url, ["a"])
    assert_one_line(caught.value, "generate.openai.api_key_env", f"{VARIABLE} isn't set")


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_key_that_the_api_sends_back_shows_in_no_error(api: FakeAPI, key: str, status: int) -> None:
    api.reply = lambda _: refusal(status, f"bad header: Bearer {key}")
    said = failure_of(lambda: ask(api.url, ["a"], timeout_s=3))
    assert "Bearer ***" in said
    assert key not in said


def failure_of(generate: Callable[[], object]) -> str:
    """What is said of a failure, with the whole traceback if it ends the job."""
    try:
        return str(generate())
    except DependencyError as error:
        return "".join(traceback.format_exception(error))


def test_a_key_read_from_a_file_may_end_in_a_line_break(api: FakeAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{KEY}\n")
    ask(api.url, ["a"])
    assert api.asked[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("broken", ["sk-ключ", f"{KEY}\n{KEY}"])
def test_a_key_that_fits_no_header_is_refused_unshown(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    monkeypatch.setenv(VARIABLE, broken)
    with pytest.raises(DependencyError) as caught:
        client("http://127.0.0.1:9/v1")
    assert_one_line(caught.value, "generate.openai.api_key_env", VARIABLE)
    assert broken not in str(caught.value)


def test_nothing_but_the_settings_says_where_to_ask_and_as_whom(
    api: FakeAPI, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, nowhere)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "another")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer another")
    assert ask(api.url, ["a"], timeout_s=60) == echoed(["a"])
    assert api.asked[0].headers["Authorization"] == f"Bearer {key}"
    assert "another" not in str(api.asked[0].headers)


def test_a_socks_proxy_without_its_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(DependencyError) as caught:
        client("https://api.example.com/v1")
    assert_one_line(caught.value, "generate.openai.base_url: https://api.example.com/v1", "socksio isn't installed")


@pytest.mark.parametrize("reply", [refusal(404, "no model tiny"), Reply(302, "", {"Location": "/"}), Reply(405, "")])
def test_a_model_or_an_address_that_is_not_there_ends_the_job(api: FakeAPI, reply: Reply) -> None:
    api.reply = lambda _: reply
    with pytest.raises(DataError) as caught:
        ask(api.url, ["a", "b"])
    assert_one_line(caught.value, "generate.model", "'tiny'", "generate.openai.base_url", str(reply.status))


def test_an_error_that_ends_the_job_waits_for_no_other_request(api: FakeAPI, silence: Callable[[Asked], Reply]) -> None:
    api.reply = lambda asked: refusal(401, "no") if asked.user == "b" else silence(asked)
    start = time.monotonic()
    with pytest.raises(DependencyError):
        ask(api.url, ["a", "b", "c"])
    assert time.monotonic() - start < 10


def test_tokens_are_counted_as_the_api_does(api: FakeAPI) -> None:
    usage = {"prompt_tokens": 30, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 16}}
    api.reply = lambda _: completion("yes", "length", usage)
    assert ask(api.url, ["a"]) == [Completion("yes", "length", 30, 2, 16)]


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "prompt_tokens_details": None}])
def test_tokens_that_the_api_does_not_count_are_unknown(api: FakeAPI, usage: object) -> None:
    api.reply = lambda _: completion("yes", "stop", usage)
    assert ask(api.url, ["a"]) == [Completion("yes", "stop", None, None, 0)]


@pytest.mark.parametrize("reason", [None, "eos_token", "max_tokens", "end_turn"])
def test_a_text_is_an_answer_whatever_reason_it_ended_for(api: FakeAPI, reason: str | None) -> None:
    api.reply = lambda _: completion("yes", reason)
    assert ask(api.url, ["a"]) == [Completion("yes", reason, 7, 3)]


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "yes, "}, {"type": "text", "text": "it does"}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "Does it?"}]}, {"text": "yes, it does"}],
        ["yes, ", {"type": "output_text", "text": "it does", "annotations": []}],
        {"type": "text", "text": "yes, it does"},
    ],
    ids=["parts", "with thoughts", "mixed", "one part"],
)
def test_the_parts_of_an_answer_that_are_text_are_joined(api: FakeAPI, content: object) -> None:
    api.reply = lambda _: completion(content)
    assert ask(api.url, ["a"]) == [Completion("yes, it does", "stop", 7, 3)]


def test_an_answer_that_was_broken_off_is_none(api: FakeAPI) -> None:
    api.reply = lambda _: completion("half", "content_filter")
    assert ask(api.url, ["a"]) == [Failure("the API ended its answer with finish_reason content_filter")]


NO_OTHER = "the message has no other field"


@pytest.mark.parametrize(
    ("reply", "reason", "came"),
    [
        (completion(""), "stop", NO_OTHER),
        (completion(" \n", "eos_token"), "eos_token", NO_OTHER),
        (completion(None, None), None, NO_OTHER),
        (completion([{"type": "image_url"}]), "stop", NO_OTHER),
        (
            completion(None, "length", reasoning_content="I think"),
            "length",
            "the message has reasoning_content; raise generate.max_new_tokens",
        ),
        (completion(None, refusal="I can\nnot"), "stop", "the message has refusal; the refusal says I can not"),
        (
            completion(None, "tool_calls", tool_calls=[{"id": "1", "type": "function", "function": {}}]),
            "tool_calls",
            "the message has tool_calls; tool calls: 1",
        ),
        (Reply(200, {"choices": [{}]}), None, NO_OTHER),
        (Reply(200, {"choices": [{"message": None, "finish_reason": "stop"}]}), "stop", NO_OTHER),
    ],
)
def test_an_empty_answer_is_an_error_that_says_what_came(
    api: FakeAPI, reply: Reply, reason: str | None, came: str
) -> None:
    api.reply = lambda _: reply
    error = f"the API ended its answer with finish_reason {reason}, without text: {came}"
    assert ask(api.url, ["a"]) == [Failure(error)]


def test_a_check_asks_for_one_token(api: FakeAPI) -> None:
    assert check(api.url) == f"{api.url}, model tiny answers"
    assert [asked.body["max_tokens"] for asked in api.asked] == [1]


def test_a_check_takes_an_answer_without_text(api: FakeAPI) -> None:
    api.reply = lambda _: completion(None, "length")
    assert check(api.url) == f"{api.url}, model tiny answers"


def test_a_check_names_what_is_wrong(api: FakeAPI, key: str) -> None:
    wrong = {"generate.openai.api_key_env": 401, "generate.model": 400, "generate.openai.base_url": 404}
    for part, status in wrong.items():
        api.reply = lambda _, status=status: refusal(status, f"no, {key}")  # type: ignore[misc]
        with pytest.raises(RagjobError) as caught:
            check(api.url)
        assert_one_line(caught.value, part)


def test_a_check_waits_for_an_api_that_starts() -> None:
    port = free_port()
    with ThreadPoolExecutor(1) as thread:
        checked = thread.submit(check, f"http://127.0.0.1:{port}/v1")
        time.sleep(0.5)
        with serve(port) as api:
            assert checked.result() == f"{api.url}, model tiny answers"


def test_a_client_that_is_closed_leaves_no_thread(api: FakeAPI) -> None:
    ask(api.url, ["a"])
    assert [thread for thread in threading.enumerate() if thread.name == "openai"] == []
