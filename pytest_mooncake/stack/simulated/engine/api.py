"""The engine's HTTP surface: what an OpenAI client, a tokenizer client and Prometheus see."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from pytest_mooncake.stack.simulated.engine.protocol import (
    ApiError,
    GenerationRequest,
    ServedModel,
    answer_tokens,
    chat_prompt,
    check_model,
    parse_generation,
    prompt_tokens,
)
from pytest_mooncake.stack.simulated.engine.scheduler import Job, SimulatedEngine
from pytest_mooncake.stack.simulated.engine.stream import DONE, Answer, Usage, certain_logprobs, error_event
from pytest_mooncake.stack.simulated.faults import Faults

OWNER = "pytest-mooncake-simulated"
"""`owned_by` of the model card: whoever attaches to this endpoint can tell that it is simulated."""
MAX_BODY_BYTES = 64 * 2**20
_ERROR_AFTER_TOKENS = 3


class EngineApi:
    """Handlers of one engine.

    Args:
        engine: does the work.
        served: the model.
        faults: those that concern answers act here.
        kv: KV geometry as the model card tells it.
        version: what `/version` says.
    """

    def __init__(
        self,
        engine: SimulatedEngine,
        served: ServedModel,
        faults: Faults,
        *,
        kv: dict[str, int],
        version: str,
    ) -> None:
        self._engine = engine
        self._served = served
        self._faults = faults
        self._kv = kv
        self._version = version
        self._created_s = int(time.time())
        self._generations = itertools.count(1)

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors_as_json])
        app.add_routes(
            [
                web.get("/v1/models", self._models),
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat_completions),
                web.get("/health", self._health),
                web.get("/version", self._tell_version),
            ]
        )
        if not self._faults.no_metrics:
            app.router.add_get("/metrics", self._metrics)
        if not self._faults.no_tokenizer:
            app.add_routes([web.post("/tokenize", self._tokenize), web.post("/detokenize", self._detokenize)])
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _tell_version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": self._version})

    async def _metrics(self, _request: web.Request) -> web.Response:
        return metrics_response(self._engine.exposition())

    async def _models(self, _request: web.Request) -> web.Response:
        card = {
            "id": self._served.name,
            "object": "model",
            "created": self._created_s,
            "owned_by": OWNER,
            "root": self._served.name,
            "parent": None,
            "max_model_len": self._served.max_model_len,
            "kv": self._kv,
        }
        return web.json_response({"object": "list", "data": [card]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        check_model(fields, self._served)
        chat = "messages" in fields
        vocabulary = self._served.vocabulary
        tokens = chat_prompt(fields, vocabulary) if chat else prompt_tokens(fields.get("prompt"), vocabulary)
        strings = [vocabulary.words[token] for token in tokens] if fields.get("return_token_strs") else None
        return web.json_response(
            {
                "count": len(tokens),
                "max_model_len": self._served.max_model_len,
                "tokens": tokens.tolist(),
                "token_strs": strings,
            }
        )

    async def _detokenize(self, request: web.Request) -> web.Response:
        fields = await _body(request)
        check_model(fields, self._served)
        tokens = prompt_tokens(fields.get("tokens"), self._served.vocabulary)
        return web.json_response({"prompt": self._served.vocabulary.decode(tokens)})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, chat=False)

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, chat=True)

    async def _generate(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        body = await _body(request)
        self._fail_on_purpose(next(self._generations))
        asked = parse_generation(body, self._served, chat=chat)
        job = Job(
            prompt=asked.prompt,
            output=answer_tokens(asked.prompt, asked.output_tokens, self._served.vocabulary),
            finish_reason=asked.finish_reason,
            tags=asked.tags,
            skip_save=asked.skip_save,
        )
        self._engine.submit(job)
        try:
            return await (self._stream(request, asked, job) if asked.stream else self._answer_whole(asked, job))
        finally:
            self._engine.abort(job)

    def _fail_on_purpose(self, number: int) -> None:
        if self._faults.die_after is not None and number > self._faults.die_after:
            os._exit(1)  # without a word, as a crash
        if self._faults.fail_every is not None and number % self._faults.fail_every == 0:
            raise ApiError(500, "EngineCore encountered an issue (simulated).", kind="InternalServerError")

    async def _answer_whole(self, asked: GenerationRequest, job: Job) -> web.Response:
        await job.tokens_beyond(len(job.output) - 1)
        text = self._served.vocabulary.decode(job.output)
        logprobs = certain_logprobs(job.output) if asked.logprobs else None
        body = self._answer(asked).whole(
            text, finish_reason=job.finish_reason, usage=self._usage(job), logprobs=logprobs
        )
        return web.Response(body=body, content_type="application/json")

    async def _stream(self, request: web.Request, asked: GenerationRequest, job: Job) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        answer = self._answer(asked)
        if asked.chat:
            await response.write(answer.role())
        sent, step = 0, self._faults.tokens_per_chunk or 1
        while sent < len(job.output):
            ready = await job.tokens_beyond(min(sent + step, len(job.output)) - 1)
            if self._faults.stream_error and ready > _ERROR_AFTER_TOKENS:
                await response.write(error_event("EngineCore encountered an issue (simulated).") + DONE)
                return response
            events, sent = self._events(answer, job, sent, ready, step)
            await response.write(events)
        usage = self._usage(job)
        await response.write((answer.usage(usage) if usage and asked.include_usage else b"") + DONE)
        return response

    def _events(self, answer: Answer, job: Job, sent: int, ready: int, step: int) -> tuple[bytes, int]:
        """Return the events of `step` tokens each from `sent` on that are ready, and how many tokens are sent then."""
        words = self._served.vocabulary.words
        events = []
        while sent < ready and (until := min(sent + step, len(job.output))) <= ready:
            text = " ".join(words[token] for token in job.output[sent:until])
            last = until == len(job.output)
            events.append(
                answer.text(
                    text if sent == 0 else " " + text,
                    completed=until,
                    finish_reason=job.finish_reason if last else None,
                    token_ids=job.output[sent:until],
                )
            )
            sent = until
        return b"".join(events), sent

    def _answer(self, asked: GenerationRequest) -> Answer:
        running = asked.continuous_usage and asked.include_usage and not self._faults.no_usage
        return Answer(
            identifier=("chatcmpl-" if asked.chat else "cmpl-") + uuid.uuid4().hex,
            model=self._served.name,
            chat=asked.chat,
            created_s=int(time.time()),
            usage_prompt_tokens=len(asked.prompt) if running else None,
            shows_ids=asked.return_token_ids,
        )

    def _usage(self, job: Job) -> Usage | None:
        if self._faults.no_usage:
            return None
        wrong = int(self._faults.wrong_usage)
        cached = job.split.cached_tokens if job.split else 0
        return Usage(
            prompt_tokens=len(job.prompt) + wrong,
            completion_tokens=len(job.output) - wrong,
            cached_tokens=None if self._faults.no_cached_tokens else cached,
        )


def metrics_response(text: bytes) -> web.Response:
    """Return a Prometheus exposition, text format 0.0.4."""
    return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _body(request: web.Request) -> dict[str, object]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.")
    return body


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return web.json_response(error.body, status=error.status)
    except web.HTTPNotFound:
        return web.json_response({"detail": "Not Found"}, status=404)
