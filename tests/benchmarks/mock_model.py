"""A model server that costs next to nothing, for measuring what stands before it: `python mock_model.py PORT`.

It says what vLLM would: first a call of the first tool offered, then, once a tool has answered, the final text. Token
ids and logprobs (300 and 360 of the prompt, 48 and 96 of the reply) are given where asked for. Every reply is built
once, at the start. Not a model: it takes no notice of the question.
"""

import itertools
import json
import sys
from typing import Any

import uvicorn

ANSWER = "The calculator says 84. ### 84 ###"
CALL = {"name": "%(tool)s", "arguments": json.dumps({"expression": "12 * 7"})}
TURNS = ((300, 48), (360, 96))
"""Tokens of prompt and reply, first and second turn."""


def chat_reply(turn: int, ids: bool, logprobs: bool) -> dict[str, Any]:
    prompt, length = TURNS[turn]
    call = {"id": "call-%d", "type": "function", "function": CALL}
    message = {"role": "assistant", "content": ANSWER if turn else None, "tool_calls": [] if turn else [call]}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop" if turn else "tool_calls"}
    tokens = [(17 * n) % 49000 for n in range(length)]
    if logprobs:
        each = [{"token": f"token_id:{t}", "logprob": -t / 97e3, "bytes": None, "top_logprobs": []} for t in tokens]
        choice["logprobs"] = {"content": each}
    reply = {"id": "chat-%d", "object": "chat.completion", "created": 1, "model": "mock", "choices": [choice]}
    usage = {"prompt_tokens": prompt, "completion_tokens": length, "total_tokens": prompt + length}
    if ids:
        choice["token_ids"], reply["prompt_token_ids"] = tokens, list(range(prompt))
    return {**reply, "usage": usage}


CHAT = {
    key: json.dumps(chat_reply(*key)).replace("-%d", "-%(number)d")
    for key in itertools.product((0, 1), (False, True), (False, True))
}
COUNTER = itertools.count()
COMPLETIONS: dict[str, Any] = {}
"""For prompts of token ids: the ids of both replies, and the length of a prompt from which on a tool has answered."""


def answer(path: str, body: dict[str, Any]) -> str:
    if path.endswith("/chat/completions"):
        turn = int(any(m["role"] == "tool" for m in body["messages"]))
        key = (turn, bool(body.get("return_token_ids")), bool(body.get("logprobs")))
        tool = body["tools"][0]["function"]["name"] if body.get("tools") else "calculate"
        reply = CHAT[key] % {"number": next(COUNTER), "tool": tool}
        return streamed(json.loads(reply)) if body.get("stream") else reply
    if path.endswith("/v1/completions"):
        ids = COMPLETIONS["replies"][int(len(body["prompt"]) >= COMPLETIONS["answered"])]
        scores = {"token_logprobs": [-0.01] * len(ids), "tokens": [], "top_logprobs": None, "text_offset": []}
        choice = {"index": 0, "text": "", "finish_reason": "stop", "token_ids": ids, "logprobs": scores}
        return json.dumps({"id": "c", "object": "text_completion", "created": 1, "model": "mock", "choices": [choice]})
    if path.endswith("/script"):
        COMPLETIONS.update(body)
    return json.dumps({"object": "list", "data": [{"id": "mock", "object": "model", "created": 1, "owned_by": "mock"}]})


def streamed(reply: dict[str, Any]) -> str:
    """The same as a stream of three events."""
    choice = reply["choices"][0]
    message = choice.pop("message")
    calls = [{"index": n, **call} for n, call in enumerate(message.pop("tool_calls"))]
    head = {**reply, "object": "chat.completion.chunk", "usage": None}
    said = {**choice, "delta": {**message, **({"tool_calls": calls} if calls else {})}, "finish_reason": None}
    ended = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
    events = [
        {**head, "choices": [said]},
        {**head, "choices": [ended]},
        {**head, "choices": [], "usage": reply["usage"]},
    ]
    return "".join(f"data: {event}\n\n" for event in [*map(json.dumps, events), "[DONE]"])


async def app(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    said = answer(scope["path"], json.loads(body or b"{}")).encode()
    kind = b"text/event-stream" if said.startswith(b"data:") else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", lifespan="off", ws="none", http="httptools"
    )
