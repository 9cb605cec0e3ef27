#!/bin/sh
# Starts a queue server: writes its users from the environment, then becomes the server.
#
#   redis-entrypoint.sh PROGRAM [ARGUMENT]...
#
#   REDIS_PASSWORD   the queue user's password; required, unless REDIS_ACL is given
#   REDIS_USERNAME   its name (queue)
#   REDIS_QUEUES     the queues that it may use, with spaces between them (inventory_updates)
#   REDIS_ACL        instead of all these: the whole text of the file of users; its first line should be
#                    "user default off resetpass ~* &* +@all", for the reason that stands below, and
#                    the health check logs in with the REDIS_USERNAME and REDIS_PASSWORD given
#   REDIS_CONF       the settings (/etc/queue/redis.conf)
#   REDIS_ACL_FILE   where to write the users (/run/queue/users.acl)
set -eu

# Everything that this package runs on a queue, inside its scripts and outside; PING and INFO are the
# health check and the first lines of `flask consume`. client|setname names connections for
# CLIENT LIST. client|setinfo is missing on purpose: Redis 7.0 does not know it and would not start;
# clients get on without it.
COMMANDS="+ping +info +client|setname
  +eval +evalsha +time
  +lpush +rpush +rpop +lindex +llen +lrange +blmove
  +hset +hget +hmget +hgetall +hkeys +hlen +hexists +hdel +hincrby
  +zadd +zrem +zcard +zscore +zrange +zrangebyscore +zpopmin
  +get +set +exists"

fail() {
  printf '%s\n' "$1" >&2
  exit 1
}

write_users() {
  if [ -n "${REDIS_ACL:-}" ]; then
    printf '%s\n' "$REDIS_ACL"
    return
  fi
  # The file holds the digest, so that neither the file nor a backup of it gives the password away.
  digest=$(printf %s "$REDIS_PASSWORD" | sha256sum)
  keys=
  for queue in $queues; do
    keys="$keys ~$queue ~{$queue}:*"
  done
  # Word splitting makes the commands one line, as the file wants them.
  # shellcheck disable=SC2086
  set -- $COMMANDS
  # Nobody can log in as the default user, but Redis reads its append-only file as that user. Without
  # these rights Redis 7.0 to 8 skip each change that a script made, and the queues come back empty.
  printf 'user default off resetpass ~* &* +@all\n'
  printf 'user %s on #%s resetchannels -@all %s%s\n' "$user" "${digest%% *}" "$*" "$keys"
}

[ $# -gt 0 ] || fail 'Name the server program to start, for example: valkey-server.'
program=$1
shift
conf=${REDIS_CONF:-/etc/queue/redis.conf}
file=${REDIS_ACL_FILE:-/run/queue/users.acl}
user=${REDIS_USERNAME:-queue}
queues=${REDIS_QUEUES:-inventory_updates}

if [ -z "${REDIS_ACL:-}" ]; then
  case ${REDIS_PASSWORD:-} in
    '') fail 'REDIS_PASSWORD is not set: give the queue server a password.' ;;
    *[[:space:]]*) fail 'REDIS_PASSWORD contains white space or a line break: use another one.' ;;
  esac
  case $user in
    default) fail 'REDIS_USERNAME is "default", the user that is switched off: use another name.' ;;
    *[!A-Za-z0-9._-]*) fail 'REDIS_USERNAME may have letters, digits, ".", "_" and "-" only.' ;;
  esac
  # Other characters, such as a lone *, would open more keys than meant.
  case $queues in
    *[!A-Za-z0-9._\ -]*) fail 'REDIS_QUEUES may have names of queues with spaces between them only.' ;;
  esac
fi

umask 077
write_users >"$file"
# The server has no use for them, and what it does not have it cannot give away.
unset REDIS_PASSWORD REDIS_ACL
exec "$program" "$conf" --aclfile "$file" "$@"
