"""Rendering from an event loop: the same texts and refusals, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from outcrop.base.errors import TemplateRefused
from outcrop.models import chat
from outcrop.models.chat import ChatTemplate, TemplateLimits

HELLO = [{"role": "user", "content": "Hello"}]
ECHO = ChatTemplate("{{ messages[0].content }}")
LOOPS = ChatTemplate(
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", limits=TemplateLimits(cpu_s=0.2)
)


def test_the_text_is_that_of_render() -> None:
    assert asyncio.run(ECHO.render_async(HELLO)) == ECHO.render(HELLO) == "Hello"


def test_a_large_text_comes_back_whole() -> None:
    large = [{"role": "user", "content": "abc\n" * 500_000}]
    assert asyncio.run(ECHO.render_async(large)) == large[0]["content"]


def test_a_refusal_names_its_reason() -> None:
    refusing = ChatTemplate("{{ raise_exception('no such role') }}")
    with pytest.raises(TemplateRefused, match="no such role"):
        asyncio.run(refusing.render_async(HELLO))


def test_the_loop_goes_on_while_a_template_loops() -> None:
    async def both() -> list[str]:
        order: list[str] = []
        ECHO.render(HELLO)  # a warm worker, so that the next line starts no process

        async def looping() -> None:
            with pytest.raises(TemplateRefused, match="processor time"):
                await LOOPS.render_async(HELLO)
            order.append("stopped")

        task = asyncio.create_task(looping())
        await asyncio.sleep(0.01)
        order.append("went on")
        await task
        return order

    assert asyncio.run(both()) == ["went on", "stopped"]
    assert ECHO.render(HELLO) == "Hello"


def test_more_renderings_than_workers_wait_their_turn() -> None:
    async def many() -> list[str]:
        messages = [[{"role": "user", "content": str(n)}] for n in range(40)]
        return await asyncio.gather(*(ECHO.render_async(one) for one in messages))

    assert asyncio.run(many()) == [str(n) for n in range(40)]


def test_a_cancelled_rendering_leaves_no_answer_behind() -> None:
    async def cancelled() -> None:
        ECHO.render(HELLO)
        task = asyncio.create_task(LOOPS.render_async(HELLO))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert all(worker.alive for worker in chat._POOL._idle)
    assert asyncio.run(ECHO.render_async(HELLO)) == "Hello"


def test_a_worker_that_does_not_answer_is_stopped() -> None:
    slow = ChatTemplate(LOOPS.source, limits=TemplateLimits(cpu_s=30.0, wall_s=0.2))
    ECHO.render(HELLO)
    with pytest.raises(TemplateRefused, match=r"was stopped after 0\.2 s"):
        asyncio.run(slow.render_async(HELLO))
    assert ECHO.render(HELLO) == "Hello"
