# The queue server.
#   docker build -t redis-queue .
#   docker run -e REDIS_PASSWORD=... -v redis:/data redis-queue
#
# Valkey, because it is free software and the tests run this very version; the Alpine variant has all
# that the entry point needs, and little else.
FROM valkey/valkey:9.1.2-alpine

COPY redis.conf /etc/queue/redis.conf
COPY --chmod=0755 .docker/redis-entrypoint.sh /usr/local/bin/redis-entrypoint.sh

# The file of users lies here, outside the volume: it is written anew at each start.
RUN mkdir -p /run/queue && chown 999:1000 /run/queue && chmod 0700 /run/queue

# The image's own user, as numbers: a cluster that forbids root can check only those.
USER 999:1000
WORKDIR /data
VOLUME /data
EXPOSE 6379

# On SIGTERM the server writes out its append-only file and leaves.
STOPSIGNAL SIGTERM

# The client reads REDISCLI_AUTH by itself: on its command line everybody who may list processes would
# see the password. It also leaves with 0 when it is refused, so that the answer is what counts.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
  CMD ["sh", "-c", "REDISCLI_AUTH=$REDIS_PASSWORD valkey-cli --user \"${REDIS_USERNAME:-queue}\" ping | grep -q '^PONG$'"]

ENTRYPOINT ["redis-entrypoint.sh"]
# All addresses, IPv6 where there is any; the users decide who may do what.
CMD ["valkey-server", "--bind", "*", "-::*"]
