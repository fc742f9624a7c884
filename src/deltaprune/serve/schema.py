"""The request of `/v1/chat/completions`, as far as it is understood; what would be ignored at a cost is refused."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

IGNORED = frozenset({"user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"})
NEUTRAL: dict[str, tuple[Any, ...]] = {  # fields of OpenAI's that do nothing here, with the values that ask for nothing
    "audio": (None,),
    "frequency_penalty": (None, 0),
    "function_call": (None, "none", "auto"),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "modalities": (None, ["text"]),
    "parallel_tool_calls": (None, True, False),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "reasoning_effort": (None, "none"),
    "response_format": (None, {"type": "text"}),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
    "verbosity": (None,),
    "web_search_options": (None,),
}


class ImageUrl(BaseModel):
    """Where a picture is: a data URI, or an address; `detail` changes nothing."""

    url: str
    detail: str | None = None


class TextPart(BaseModel):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    """A picture of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Message(BaseModel):
    """One turn of a chat; further fields, such as those of an earlier answer, are left out."""

    role: str
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class StreamOptions(BaseModel):
    """Whether a stream ends with the usage."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(BaseModel):
    """A request. `temperature` is 0, which is greedy decoding, unless it is given."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str
    messages: list[Message] = Field(min_length=1)
    method: str | None = Field(None, description="Pruning, as `deltaprune methods` lists it; None: the server's.")
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _neutral(cls, raw: Any) -> Any:
        """Take out what does nothing here; what would have to do something is refused."""
        if not isinstance(raw, dict):
            return raw
        for name, neutral in NEUTRAL.items():
            if name in raw and not any(type(raw[name]) is type(v) and raw[name] == v for v in neutral):
                if raw[name] == 0 and 0 in neutral:
                    continue
                raise ValueError(f"{name!r} is not supported by this server: leave it out")
        return {name: value for name, value in raw.items() if name not in IGNORED and name not in NEUTRAL}

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > 4 or not all(stops):
            raise ValueError("give at most 4 texts, none of them empty")
        return stop

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
