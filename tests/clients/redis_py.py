"""What programs do with redis-py, or with valkey-py, which has the same interface: in both protocols."""

import importlib
import sys
import threading
import time

library = importlib.import_module(sys.argv[1])
port, replica_port = map(int, sys.argv[2:4])


def check(what, wanted):
    assert what == wanted, f"{what!r} instead of {wanted!r}"


def connect(at, protocol):
    client = getattr(library, "Redis", None) or library.Valkey
    return client(port=at, protocol=protocol, decode_responses=True)


def values(client):
    client.flushall()
    check(client.set("key", "value", ex=100, nx=True), True)
    check(client.set("key", "other", nx=True), None)
    check(client.get("key"), "value")
    assert 0 < client.ttl("key") <= 100
    check(client.mget("key", "missing"), ["value", None])
    check(client.incrbyfloat("float", 1.5), 1.5)
    check(client.hset("hash", mapping={"a": 1, "b": 2}), 2)
    check(client.hgetall("hash"), {"a": "1", "b": "2"})
    check(client.rpush("list", 1, 2, 3), 3)
    check(client.lrange("list", 0, -1), ["1", "2", "3"])
    check(client.blpop("list", timeout=1), ["list", "1"] if client.resp3 else ("list", "1"))
    check(client.sadd("set", "x", "y"), 2)
    check(set(client.smembers("set")), {"x", "y"})
    check(client.zadd("sorted", {"one": 1, "two": 2.5}), 2)
    check([(name, score) for name, score in client.zrange("sorted", 0, -1, withscores=True)], [("one", 1.0), ("two", 2.5)])
    check(client.pfadd("log", "a", "b"), 1)
    check(client.pfcount("log"), 2)
    check(client.setbit("bits", 7, 1), 0)
    check(client.bitcount("bits"), 1)
    entry = client.xadd("stream", {"field": "value"})
    check(client.xrange("stream"), [(entry, {"field": "value"})])
    check(client.xgroup_create("stream", "group", "0"), True)
    assert client.xreadgroup("group", "consumer", {"stream": ">"})
    check(client.xack("stream", "group", entry), 1)
    check(sorted(client.scan_iter("h*")), ["hash"])
    check(client.object("encoding", "hash"), "listpack")
    check(client.copy("hash", "copied"), True)
    check(client.type("copied"), "hash")


def transactions(client, other):
    client.set("counter", 1)
    with client.pipeline() as pipe:
        check(pipe.incr("counter").get("counter").execute(), [2, "2"])
        pipe.watch("counter")
        other.set("counter", 10)
        pipe.multi()
        pipe.incr("counter")
        try:
            pipe.execute()
            raise AssertionError("the watched key had changed")
        except library.WatchError:
            pass

    def increment(pipe):
        read = int(pipe.get("counter"))
        pipe.multi()
        pipe.set("counter", read + 1)

    check(client.transaction(increment, "counter"), [True])
    check(client.get("counter"), "11")
    pipe = client.pipeline(transaction=False)
    for number in range(1000):
        pipe.set(f"many:{number}", number)
    check(pipe.execute(), [True] * 1000)
    with client.lock("lock", timeout=5):
        assert client.exists("lock")
    assert not client.exists("lock")


def scripts(client, replica):
    client.script_flush()
    double = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    client.set("number", 1)
    # Unknown at first: the client loads it and asks again.
    check(double(keys=["number"], args=[41]), 42)
    check(client.script_exists(double.sha), [True])
    check(client.eval("return {1, 'two', false}", 0), [1, "two", None])
    client.function_load(
        """#!lua name=library
        redis.register_function{function_name = 'read', flags = {'no-writes'},
            callback = function(keys) return redis.call('GET', keys[1]) end}""",
        replace=True,
    )
    check(client.fcall_ro("read", 1, "number"), "42")
    check(client.wait(1, 5000), 1)
    check(replica.fcall_ro("read", 1, "number"), "42")
    check(replica.eval_ro("return redis.call('GET', KEYS[1])", 1, "number"), "42")
    try:
        replica.eval("return redis.call('SET', KEYS[1], 1)", 1, "number")
        raise AssertionError("a replica ran a script that writes")
    except library.exceptions.ReadOnlyError:
        pass
    try:
        client.eval("return redis.call('HGET', KEYS[1], 'a')", 1, "number")
        raise AssertionError("no error")
    except library.ResponseError as error:
        assert "WRONGTYPE" in str(error), error


def subscriptions(client, other):
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    heard = []
    subscriber.subscribe(**{"channel": lambda message: heard.append(message["data"])})
    subscriber.psubscribe(**{"pattern:*": lambda message: heard.append(message["channel"])})
    worker = subscriber.run_in_thread(sleep_time=0.01)
    try:
        ends = time.monotonic() + 10
        while other.pubsub_numpat() < 1 and time.monotonic() < ends:
            time.sleep(0.01)
        other.publish("channel", "hello")
        other.publish("pattern:x", "hello")
        while len(heard) < 2 and time.monotonic() < ends:
            time.sleep(0.01)
        check(sorted(heard), ["hello", "pattern:x"])
    finally:
        worker.stop()
        worker.join()


def administration(client):
    client.client_setname("tester")
    check(client.client_getname(), "tester")
    assert any(other["name"] == "tester" for other in client.client_list())
    check(client.config_set("slowlog-max-len", 64), True)
    check(client.config_get("slowlog-max-len"), {"slowlog-max-len": "64"})
    check(client.info("replication")["role"], "master")
    check(client.acl_whoami(), "default")
    assert client.command_count() > 200
    assert client.memory_usage("hash") > 0
    assert isinstance(client.slowlog_get(), list)
    check(client.role()[0], "master")
    assert client.dbsize() > 1000


def blocking(client, other):
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(client.blmove("from", "to", 10)))
    waiter.start()
    while other.info("clients")["blocked_clients"] < 1:
        time.sleep(0.01)
    other.rpush("from", "moved")
    waiter.join(10)
    check(answers, ["moved"])


for protocol in (2, 3):
    client, other, replica = connect(port, protocol), connect(port, protocol), connect(replica_port, protocol)
    client.resp3 = protocol == 3
    values(client)
    transactions(client, other)
    scripts(client, replica)
    subscriptions(client, other)
    administration(client)
    blocking(client, other)
print("all of it holds")
