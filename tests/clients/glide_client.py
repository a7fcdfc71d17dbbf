"""What programs do with valkey-glide: reads from a replica, pipelines, scripts, functions."""

import asyncio
import sys

import glide

port, replica_port = map(int, sys.argv[2:4])


def check(what, wanted):
    assert what == wanted, f"{what!r} instead of {wanted!r}"


async def main():
    configuration = glide.GlideClientConfiguration(
        [glide.NodeAddress("127.0.0.1", port), glide.NodeAddress("127.0.0.1", replica_port)],
        read_from=glide.ReadFrom.PREFER_REPLICA,
    )
    client = await glide.GlideClient.create(configuration)
    check(await client.set("key", "value"), "OK")
    check(await client.wait(1, 5000), 1)
    check(await client.get("key"), b"value")
    check(await client.hset("hash", {"a": "1", "b": "2"}), 2)
    check(await client.rpush("list", ["1", "2"]), 2)
    check(await client.zadd("sorted", {"one": 1.0}), 1)
    batch = glide.Batch(is_atomic=True)
    batch.incr("counter").incr("counter")
    check(await client.exec(batch, raise_on_error=True), [1, 2])
    script = glide.Script("return {KEYS[1], ARGV[1]}")
    check(await client.invoke_script(script, keys=["key"], args=["argument"]), [b"key", b"argument"])
    library = "#!lua name=library\nredis.register_function('echo', function(keys, arguments) return arguments[1] end)"
    check(await client.function_load(library, replace=True), b"library")
    check(await client.fcall("echo", arguments=["hello"]), b"hello")
    check(await client.custom_command(["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "key"]), b"value")
    await client.close()


asyncio.run(main())
print("all of it holds")
