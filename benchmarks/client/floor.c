/* What measuring costs at the least: one thread, epoll, keep-alive, a stamp per chunk. Reads nothing but "text".
   floor PORT STREAMS REQUESTS TOKENS -> one line a request: index sent_ns chunk_ns...; CPU seconds come last. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TAIL 32
typedef struct { int fd, index, seen; char tail[TAIL]; int tail_len; } stream;
static int64_t *stamps; /* per request: sent_ns, then one per token */
static int tokens, requests, next_request;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) { perror(what); exit(1); }

static int begin(stream *s) {
    char body[128], head[512];
    if (next_request >= requests) return 0;
    s->index = next_request++;
    s->seen = s->tail_len = 0;
    int size = snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":[1],\"max_tokens\":%d,\"stream\":true}", tokens);
    int all = snprintf(head, sizeof head, "POST /v1/completions HTTP/1.1\r\nHost: floor\r\nX-Request-Id: floor-%d\r\n"
                       "Content-Length: %d\r\n\r\n%s", s->index, size, body);
    if (write(s->fd, head, all) != all) fail("write");
    stamps[(int64_t)s->index * (tokens + 1)] = now_ns();
    return 1;
}

/* Counts `"text"` in what arrived; 1 once the end of the body (`0 CRLF CRLF`) is there. */
static int take(stream *s, char *data, int size, int64_t at) {
    char *place = data, *end = data + size;
    while ((place = memmem(place, end - place, "\"text\"", 6))) {
        if (s->seen < tokens) stamps[(int64_t)s->index * (tokens + 1) + ++s->seen] = at;
        place += 6;
    }
    return size >= 5 && !memcmp(end - 5, "0\r\n\r\n", 5);
}

int main(int argc, char **argv) {
    static char buffer[1 << 18];
    if (argc != 5) return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    int streams = atoi(argv[2]), poll = epoll_create1(0), open = 0, one = 1;
    requests = atoi(argv[3]);
    tokens = atoi(argv[4]);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    stamps = calloc((int64_t)requests * (tokens + 1), sizeof *stamps);
    stream *all = calloc(streams, sizeof *all);
    for (int i = 0; i < streams; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (connect(all[i].fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    for (int i = 0; i < streams; i++) open += begin(&all[i]);
    while (open > 0) {
        struct epoll_event events[64];
        int count = epoll_wait(poll, events, 64, 20000);
        if (count <= 0) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            stream *s = events[i].data.ptr;
            memcpy(buffer, s->tail, s->tail_len);
            int size = read(s->fd, buffer + s->tail_len, sizeof buffer - TAIL);
            int64_t at = now_ns();
            if (size <= 0) fail("read");
            size += s->tail_len;
            int done = take(s, buffer, size, at);
            /* A word cut in two is found with the next read; never so long that it holds a whole one. */
            s->tail_len = size < 5 ? size : 5;
            memcpy(s->tail, buffer + size - s->tail_len, s->tail_len);
            if (done && !begin(s)) open--;
        }
    }
    for (int i = 0; i < requests; i++) {
        for (int j = 0; j <= tokens; j++) printf("%lld ", (long long)stamps[(int64_t)i * (tokens + 1) + j]);
        printf("\n");
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%.6f\n", used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
