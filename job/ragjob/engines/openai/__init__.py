"""Answer with an API that is compatible with OpenAI's chat completions."""

from dataclasses import dataclass

from pydantic import field_validator

from ragjob.engines.base import Engine, Generator
from ragjob.engines.causal_lm import filling_blocks
from ragjob.engines.settings import Generation
from ragjob.errors import SettingsError
from ragjob.models.capacity import Place, Resources, Work
from ragjob.settings import Address, Decides, Section, names_no_user, setting


class OpenAI(Section):
    """An OpenAI-compatible API. Its key comes only from an environment variable."""

    base_url: Address | None = setting(
        None,
        decides=Decides.NEITHER,
        description="address of the API, such as http://HOST:8000/v1; required for openai",
    )
    api_key_env: str = setting(
        "OPENAI_API_KEY",
        decides=Decides.NEITHER,
        description="environment variable that holds the API's key, if it needs one",
        min_length=1,
    )
    concurrency: int = setting(32, decides=Decides.NEITHER, description="concurrent requests per actor", ge=1)
    timeout_s: float = setting(
        120,
        decides=Decides.NEITHER,
        description="seconds without any answer from the API before the job fails; one request may take half of that",
        gt=0,
    )

    _no_user = field_validator("base_url")(names_no_user)


class OpenAIGeneration(Generation):
    openai: OpenAI = OpenAI()


@dataclass(frozen=True)
class OpenAIEngine(Engine[OpenAIGeneration]):
    name = "openai"
    summary = "an OpenAI-compatible API"
    Settings = OpenAIGeneration

    @property
    def label(self) -> str:
        return f"openai:{self.settings.model}"  # an API doesn't tell which revision it serves

    def facts(self) -> dict[str, object]:
        return {"generate.model": self.settings.model}

    def check(self) -> str:
        if self.settings.revision:
            raise SettingsError("generate.revision: engine openai can't request a revision; leave it out")
        if self.settings.pool.num_gpus:
            raise SettingsError("generate.pool.num_gpus: engine openai uses no GPU of its own; set it to 0")
        from ragjob.engines.openai.client import check_api  # imports openai, which a finished job never needs

        api = self.settings.openai
        return check_api(
            model=self.settings.model, base_url=self._url, api_key_env=api.api_key_env, timeout_s=api.timeout_s
        )

    def place(self, size: Resources, work: Work) -> Place:
        requests = self.settings.openai.concurrency
        return Place(1, 0, f"one actor: it waits for the API, with {requests} requests at once")

    def blocks_at_once(self, rows: int) -> int:
        return filling_blocks(self.settings.openai.concurrency, rows)

    def make(self, dtype: str, threads: int) -> Generator:
        from ragjob.engines.openai.client import OpenAIClient

        api = self.settings.openai
        return OpenAIClient(
            model=self.settings.model,
            base_url=self._url,
            api_key_env=api.api_key_env,
            concurrency=api.concurrency,
            timeout_s=api.timeout_s,
            max_new_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature,
        )

    @property
    def _url(self) -> str:
        if self.settings.openai.base_url is None:
            raise SettingsError(
                "generate.openai.base_url: required by engine openai; set it, for example to http://HOST:8000/v1"
            )
        return self.settings.openai.base_url
