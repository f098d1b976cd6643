"""The official Python client over HTTP and standard input, in each way to agree on a revision.

Arguments: the program, the server's address, an agent's key, and another's whose purchases of 100 and
more wait for an administrator. Not here: the TypeScript clients.
"""

import asyncio
import sys

from mcp import Client, StdioServerParameters
from mcp.types import ElicitResult

PROGRAM, ADDRESS, KEY, WAITING_KEY = sys.argv[1:5]
LOCAL = StdioServerParameters(
    command=PROGRAM,
    args=["mcp"],
    env={"QUETRA_GATEWAY_URL": ADDRESS, "QUETRA_API_KEY": KEY},
)


async def ask(client, tool, **arguments):
    return await client.call_tool(tool, arguments)


async def check(client):
    listed = await client.list_tools()
    names = [tool.name for tool in listed.tools]
    expected = ["evaluate", "check_budget", "can_spend", "transactions"]
    assert names == [f"quetra_{name}" for name in expected], names

    left = await ask(client, "quetra_check_budget")
    assert left.structured_content["budget"]["total"] == 10_000, left
    spend = {"amount": 200, "vendor": "firecrawl.dev", "category": "research"}
    could = await ask(client, "quetra_can_spend", **spend)
    assert could.structured_content["wouldBeApproved"] is True, could
    large = {"amount": 50_000, "vendor": "netflix.com", "category": "entertainment"}
    refused = await ask(client, "quetra_evaluate", **large)
    assert not refused.is_error, refused
    assert refused.structured_content["approved"] is False, refused
    shown = await ask(client, "quetra_transactions", limit=1)
    newest = shown.structured_content["transactions"][0]["transactionId"]
    assert newest == refused.structured_content["transactionId"], shown

    fraction = await ask(client, "quetra_evaluate", amount=2.5, vendor="firecrawl.dev")
    assert fraction.is_error and "1500 for $15.00" in fraction.content[0].text, fraction
    huge = await ask(client, "quetra_can_spend", amount=1, vendor="x" * 5_000)
    assert huge.is_error and "INVALID_FIELDS" in huge.content[0].text, huge
    given_up = asyncio.create_task(ask(client, "quetra_check_budget"))
    await asyncio.sleep(0.001)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    many = await asyncio.gather(*(ask(client, "quetra_check_budget") for _ in range(50)))
    assert all(answer.structured_content["status"] == "active" for answer in many)
    try:
        unknown = await ask(client, "quetra_nothing")
    except Exception as error:
        assert "no such tool" in str(error), error
    else:
        raise AssertionError(f"a tool that does not exist answered {unknown}")


async def check_asking():
    """A client that can ask the person in front of it is told to."""
    asked = []

    async def accept(_context, params):
        asked.append(params.message)
        return ElicitResult(action="accept", content={})

    target = f"{ADDRESS}/{WAITING_KEY}/mcp"
    async with Client(target, mode="2026-07-28", elicitation_callback=accept) as client:
        waiting = await ask(client, "quetra_evaluate", amount=500, vendor="acme.com")
    assert waiting.structured_content["decision"] == "pending_approval", waiting
    assert len(asked) == 1 and "Accepting approves nothing" in asked[0], asked
    print("python, asks the person: ok")


async def main():
    for place, target in [("http", f"{ADDRESS}/{KEY}/mcp"), ("stdio", LOCAL)]:
        for mode in ["legacy", "auto", "2026-07-28"]:
            async with Client(target, mode=mode) as client:
                await check(client)
            print(f"python, {place}, {mode}: ok")
    await check_asking()


asyncio.run(main())
