"""The steps that Redis must do as one: Lua, with the names of all keys.

An entry of a job stream has the field ``job`` (a Job without the bytes of its pictures) and, for
each picture that travels inline, the field ``data<n>``. So jobs can be listed without moving
pictures.
"""

from __future__ import annotations

from futu.jobs.message import Stream

GROUP = "compute"
DONE_STREAM = "futu:done"
DEAD_STREAM = "futu:dead"
RESULT_PREFIX = "result:"
LOCK_PREFIX = "lock:"
SERVER_PREFIX = "futu:servers:"
MEASURES_PREFIX = "futu:measures:"
STREAMS: tuple[Stream, ...] = ("query", "library", "inline")

_HELD = """
local function held(stream, group, entry, consumer)
    local found = redis.pcall('XPENDING', stream, group, entry, entry, 1)
    return not found.err and #found == 1 and found[1][2] == consumer
end
"""

DELIVER = (
    _HELD
    + """
local owner = redis.call('GET', KEYS[4])
if not held(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then
    if owner == ARGV[7] then redis.call('DEL', KEYS[4]) end
    return 0
end
if owner and owner ~= ARGV[7] then return -1 end
redis.call('DEL', KEYS[2], KEYS[4])
redis.call('RPUSH', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
if ARGV[6] ~= '' then redis.call('XADD', KEYS[3], '*', 'job_id', ARGV[6]) end
for at = 8, #ARGV do
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', 10000, '*', 'letter', ARGV[at])
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
"""
)
"""KEYS: stream, result, done, lock, dead. ARGV: group, entry, consumer, result, TTL in ms,
job id to announce or '', owner of the lock, then dead letters. 1: delivered; 0: the entry is no
longer the consumer's; -1: another has the job's lock. Unless 1, nothing is done."""

TOUCH = (
    _HELD
    + """
if not held(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[2], 'IDLE', ARGV[4], 'JUSTID')
if KEYS[2] then
    if redis.call('GET', KEYS[2]) == ARGV[5] then
        redis.call('PEXPIRE', KEYS[2], ARGV[6])
    else
        redis.call('SET', KEYS[2], ARGV[5], 'NX', 'PX', ARGV[6])
    end
end
return 1
"""
)
"""KEYS: stream, and the lock, if it is to be extended too, as redis-py's ``Lock.reacquire`` does,
or taken again if it has run out. ARGV: group, entry, consumer, ms of silence that the lease is to
have; owner of the lock and its TTL in ms."""

DROP = (
    _HELD
    + """
if not held(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return 0 end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])
"""
)
"""KEYS: stream. ARGV: group, entry, consumer."""

HEADS = """
local heads = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
    local fields = entry[2]
    for at = 1, #fields, 2 do
        if fields[at] == 'job' then heads[#heads + 1] = {entry[1], fields[at + 1]} end
    end
end
return heads
"""
"""KEYS: stream. Every entry's id and job, without pictures."""
