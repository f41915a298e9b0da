"""The answer in a chat completion, where any part may be missing or differ in type from OpenAI's reference."""

from collections.abc import Mapping

from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from ragjob.engines.base import Completion, Failure

# With these an API says that the text isn't the answer that was asked for. Any other reason is kept with the text.
BROKEN_OFF = ("content_filter", "tool_calls", "function_call", "error", "abort")
TEXT_PARTS = (None, "text", "output_text")  # types of parts; others hold reasoning, refusals or images
SHOWN_CHARS = 200


def read_completion(completion: ChatCompletion) -> Completion | Failure:
    """The text of the first choice with its finish reason as the API gives it, or a failure that says what came."""
    choice, usage = completion.choices[0], completion.usage
    message, reason = getattr(choice, "message", None), getattr(choice, "finish_reason", None)
    text = _text(getattr(message, "content", None))
    if not text.strip() or reason in BROKEN_OFF:
        without = "" if text.strip() else f", without text: {_described(message)}"
        remedy = "; raise generate.max_new_tokens" if reason == "length" else ""
        return Failure(f"the API ended its answer with finish_reason {reason}{without}{remedy}")
    cached = _count(getattr(usage, "prompt_tokens_details", None), "cached_tokens") or 0
    tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return Completion(text, None if reason is None else str(reason), *tokens, cached)


def _text(content: object) -> str:
    """`content` itself, or its parts of text, joined."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(_part(part) for part in parts)


def _part(part: object) -> str:
    if isinstance(part, Mapping):
        part = part.get("text") if part.get("type") in TEXT_PARTS else None
    return part if isinstance(part, str) else ""


def _described(message: object) -> str:
    """What a message without text holds, on one line."""
    held = message.model_dump(warnings=False) if isinstance(message, BaseModel) else {}
    fields = {name: value for name, value in held.items() if value and name not in ("role", "content")}
    refusal, calls = fields.get("refusal"), fields.get("tool_calls")
    told = [f"the message has {', '.join(sorted(fields)) or 'no other field'}"]
    told += [f"tool calls: {len(calls)}"] if isinstance(calls, list) else []
    told += [f"the refusal says {refusal}"] if refusal else []
    return " ".join("; ".join(told).split())[:SHOWN_CHARS]


def _count(usage: object, name: str) -> int | None:
    count = getattr(usage, name, None)
    return count if isinstance(count, int) else None
