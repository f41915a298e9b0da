import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.engines.chat_template import ChatTemplate
from tests.fakes import CHAT_TEMPLATE

TURN = "<t>{{ m.role }}\n{{ m.content }}</t>\n"
EACH = "{% for m in messages %}" + TURN + "{% endfor %}"
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<t>{{ m.role }}\n{{ m.content | trim }}</t>\n{% endfor %}<t>model"
)
# As Mistral's: roles must alternate, beginning with the user's.
MISTRAL = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}[INST] {{ m.content }} [/INST]{% endfor %}"
)
DEAF = "{% for m in messages if m.role != 'system' %}" + TURN + "{% endfor %}"
STRICT = "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}" + EACH

FILLED = {
    "both roles": (CHAT_TEMPLATE, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Why? <|im_end|>\n"),
    "refuses the role": (GEMMA, "<s><t>user\nBe brief.\n\n Why?</t>\n<t>model"),
    "roles alternate": (MISTRAL, "[INST] Be brief.\n\n Why?  [/INST]"),
    "leaves the role out": (DEAF, "<t>user\nBe brief.\n\n Why? </t>\n"),
}


@pytest.mark.parametrize(("template", "prompt"), FILLED.values(), ids=FILLED)
def test_the_systems_text_goes_to_its_role_or_before_the_users(template: str, prompt: str) -> None:
    filled = ChatTemplate.of(template, {"bos_token": "<s>"}).fill("Be brief.", " Why? ")
    assert filled.removesuffix("<|im_start|>assistant\n") == prompt


def test_without_a_systems_text_there_is_no_such_message() -> None:
    assert ChatTemplate.of(EACH, {}).fill("", "Why?") == "<t>user\nWhy?</t>\n"
    assert ChatTemplate.of(STRICT, {}).fill("", "Why?") == "<t>system\n</t>\n<t>user\nWhy?</t>\n"


@given(user=st.text(), system=st.text(min_size=1))
def test_the_texts_stand_in_the_prompt_as_they_are(user: str, system: str) -> None:
    template = ChatTemplate("<s>zqsystemqz\N{EM SPACE}</s><u>\N{EM SPACE}zquserqz\N{EM SPACE}</u>", None)
    assert template.fill(system, user) == f"<s>{system.lstrip()}</s><u>{user}</u>"


USELESS = {
    "refuses": ("{{ raise_exception('not\n today') }}", "refuses a prompt: TemplateError: not"),
    "no syntax": ("{% for %}", "refuses a prompt: TemplateSyntaxError: "),
    "unknown name": ("{{ messages[7].content.x }}", "refuses a prompt: UndefinedError: "),
    "says nothing": ("hello", "leaves out the user message"),
    "repeats": (EACH + EACH, "leaves out the user message"),
}


@pytest.mark.parametrize(("template", "reason"), USELESS.values(), ids=USELESS)
def test_a_template_that_takes_no_prompt_is_refused_with_its_reason(template: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ChatTemplate.of(template, {})


BOMBS = {
    "output": EACH + "{% for i in range(99999) %}{% for j in range(9999) %}xxxxxxxxxx{% endfor %}{% endfor %}",
    "time": EACH + "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "memory": EACH + "{{ 'x' * 10 ** 10 }}",
    "width": EACH + "{{ '%9999999999d' | format(1) }}",
    "a long text": EACH + "{{ 'x' * 200000 }}",
}


@pytest.mark.parametrize("template", BOMBS.values(), ids=BOMBS)
def test_a_template_that_writes_without_end_is_ended(template: str) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"^the chat template (refuses a prompt: |can't be rendered within )"):
        ChatTemplate.of(template, {})
    assert time.monotonic() - start < 120
