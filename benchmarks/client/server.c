/* The server of the comparison: streams chunks on a schedule and knows when it wrote each. One thread, epoll, keep-alive.
   server TTFT_MS GAP_MS TOKENS -> its port on a line; when standard input closes, one line a request:
   ordinal request-id arrived_ns written_ns...; the server's own CPU seconds come last.
   The first chunk holds the request's ordinal ("r000017"), so that what any client exports can be held against the truth. */
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
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ID 64
#define JITTER 7919 /* spreads the first chunks of a round over two fifths of the TTFT (50 ms: 20 ms), as a server would */
typedef struct { int64_t due; int fd, request; } timer; /* one whose request is over, or another by now, does nothing */
typedef struct { int64_t *stamps; int count; char id[ID]; } request;
typedef struct { char *in; size_t held, room; int request, next, chat, usage; } connection;

static connection *connections[1 << 16];
static request *requests;
static timer *heap;
static int request_count, request_room, timers, timer_room, tokens, alarm_fd;
static int64_t ttft_ns, gap_ns;
static char *frames[4], *ends[4]; /* [chat][usage]: chunks of a fixed size each; what follows the last */
static int frame_size[4], end_size[4];

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) { perror(what); exit(1); }
static void *grown(void *data, size_t size) { if (!(data = realloc(data, size))) fail("realloc"); return data; }

/* The ordinal is written over "r000000" in the first chunk. */
static int frame(char *to, int chat, int usage, int count) {
    char data[640], told[96] = "", choice[192];
    const char *text = count == 1 ? "r000000" : "  token";
    const char *reason = count == tokens ? "\"length\"" : "null    ";
    if (usage) snprintf(told, sizeof told, ",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":%6d,\"total_tokens\":%6d}", count, count + 1);
    if (chat) snprintf(choice, sizeof choice, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"%s\"},\"finish_reason\":%s}", text, reason);
    else snprintf(choice, sizeof choice, "{\"index\":0,\"text\":\"%s\",\"logprobs\":null,\"finish_reason\":%s,\"stop_reason\":null}", text, reason);
    int size = snprintf(data, sizeof data, "data: {\"id\":\"scripted\",\"object\":\"%s\",\"created\":0,\"model\":\"scripted\",\"choices\":[%s]%s}\n\n",
                        chat ? "chat.completion.chunk" : "text_completion", choice, told);
    return sprintf(to, "%04x\r\n%s\r\n", size, data);
}

static void prepare(void) {
    char one[1024];
    for (int kind = 0; kind < 4; kind++) {
        int chat = kind >> 1, usage = kind & 1, size = frame(one, chat, usage, 1);
        frames[kind] = grown(NULL, (size_t)size * tokens + 1);
        for (int i = 0; i < tokens; i++)
            if (frame(frames[kind] + (size_t)size * i, chat, usage, i + 1) != size) fail("frames differ in size");
        frame_size[kind] = size;
        int data = snprintf(one, sizeof one, "data: {\"id\":\"scripted\",\"object\":\"%s\",\"created\":0,\"model\":\"scripted\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,"
                            "\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", chat ? "chat.completion.chunk" : "text_completion", tokens, tokens + 1);
        ends[kind] = grown(NULL, sizeof one + 64);
        end_size[kind] = sprintf(ends[kind], "%x\r\n%s\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", data, one);
    }
}

static int earlier(int a, int b) { return heap[a].due < heap[b].due; }
static void swap(int a, int b) { timer t = heap[a]; heap[a] = heap[b]; heap[b] = t; }

static void push(int64_t due, int fd, int request) {
    if (timers == timer_room) heap = grown(heap, (timer_room = 2 * timer_room + 64) * sizeof *heap);
    heap[timers] = (timer){due, fd, request};
    for (int at = timers++; at && earlier(at, (at - 1) / 2); at = (at - 1) / 2) swap(at, (at - 1) / 2);
}

static timer pop(void) {
    timer first = heap[0];
    heap[0] = heap[--timers];
    for (int at = 0;;) {
        int least = at;
        for (int child = 2 * at + 1; child <= 2 * at + 2; child++) if (child < timers && earlier(child, least)) least = child;
        if (least == at) return first;
        swap(at, least);
        at = least;
    }
}

static void closed(int fd) {
    free(connections[fd]->in);
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

static void send_all(int fd, const char *data, size_t size) {
    if (write(fd, data, size) != (ssize_t)size) closed(fd); /* a client that does not read is not measured here */
}

static void write_chunk(int fd) {
    connection *c = connections[fd];
    char out[4096];
    int kind = 2 * c->chat + c->usage, size = frame_size[kind], head = 0, last = c->next + 1 == tokens;
    request *r = &requests[c->request];
    if (!c->next) head = sprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n");
    memcpy(out + head, frames[kind] + (size_t)size * c->next, size);
    if (!c->next) {
        char ordinal[16];
        sprintf(ordinal, "r%06d", c->request % 1000000);
        memcpy(memmem(out + head, size, "r000000", 7), ordinal, 7);
    }
    if (last) memcpy(out + head + size, ends[kind], end_size[kind]);
    c->next++;
    if (last) c->request = -1;
    r->stamps[r->count++] = now_ns();
    send_all(fd, out, head + size + (last ? end_size[kind] : 0));
}

static void due(int64_t now) {
    while (timers && heap[0].due <= now) {
        timer t = pop();
        if (!connections[t.fd] || connections[t.fd]->request != t.request) continue;
        write_chunk(t.fd);
        if (connections[t.fd] && connections[t.fd]->request >= 0) push(t.due + gap_ns, t.fd, t.request);
    }
    struct itimerspec at = {0};
    if (timers) at.it_value = (struct timespec){heap[0].due / 1000000000, heap[0].due % 1000000000};
    timerfd_settime(alarm_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void begin(int fd, const char *head, size_t head_size, const char *body, size_t body_size) {
    connection *c = connections[fd];
    if (request_count == request_room) requests = grown(requests, (request_room = 2 * request_room + 64) * sizeof *requests);
    request *r = &requests[c->request = request_count++];
    *r = (request){grown(NULL, (tokens + 1) * sizeof(int64_t)), 1, "-"};
    r->stamps[0] = now_ns();
    const char *id = strcasestr(head, "\r\nx-request-id: ");
    if (id && id < head + head_size) sscanf(id + 16, "%63[^\r\n ]", r->id);
    c->next = 0;
    c->chat = memmem(head, 64 < head_size ? 64 : head_size, "chat", 4) != NULL;
    c->usage = memmem(body, body_size, "continuous_usage_stats", 22) != NULL;
    push(r->stamps[0] + ttft_ns + ttft_ns / 2500 * ((int64_t)request_count * JITTER % 1000), fd, c->request);
}

static void answer(int fd, const char *status, const char *json) {
    char out[1024];
    send_all(fd, out, snprintf(out, sizeof out, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(json), json));
}

static void take_request(int fd, char *head, size_t head_size, char *body, size_t body_size) {
    if (!memcmp(head, "POST", 4) && memmem(head, 64 < head_size ? 64 : head_size, "completions", 11)) begin(fd, head, head_size, body, body_size);
    else if (memmem(head, 64 < head_size ? 64 : head_size, "/models", 7))
        answer(fd, "200 OK", "{\"object\":\"list\",\"data\":[{\"id\":\"scripted\",\"object\":\"model\",\"created\":0,\"owned_by\":\"scripted\",\"root\":\"scripted\",\"max_model_len\":40960}]}");
    else if (memmem(head, 64 < head_size ? 64 : head_size, "/health", 7)) answer(fd, "200 OK", "{}");
    else answer(fd, "404 Not Found", "{\"error\":{\"message\":\"not here\"}}");
}

static void readable(int fd) {
    connection *c = connections[fd];
    if (!c) return;
    if (c->room - c->held < 1 << 16) c->in = grown(c->in, c->room = 2 * c->room + (1 << 17));
    ssize_t size = read(fd, c->in + c->held, c->room - c->held - 1);
    if (size <= 0) { closed(fd); return; }
    c->held += size;
    c->in[c->held] = 0;
    char *end = memmem(c->in, c->held, "\r\n\r\n", 4);
    if (!end) return;
    size_t head_size = end + 4 - c->in, body_size = 0;
    char *length = strcasestr(c->in, "\r\ncontent-length:");
    if (length && length < end) body_size = strtoul(length + 17, NULL, 10);
    if (c->held < head_size + body_size) return;
    c->held = 0; /* nobody pipelines */
    take_request(fd, c->in, head_size, c->in + head_size, body_size);
}

static void report(void) {
    for (int i = 0; i < request_count; i++) {
        printf("%d %s", i, requests[i].id);
        for (int j = 0; j < requests[i].count; j++) printf(" %lld", (long long)requests[i].stamps[j]);
        printf("\n");
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%.6f\n", used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
}

static void watch(int poll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

static void accepted(int poll, int listener) {
    int fd = accept(listener, NULL, NULL), one = 1;
    if (fd < 0 || fd >= 1 << 16) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connections[fd] = calloc(1, sizeof(connection));
    connections[fd]->request = -1;
    watch(poll, fd);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    ttft_ns = (int64_t)(atof(argv[1]) * 1e6);
    gap_ns = (int64_t)(atof(argv[2]) * 1e6);
    tokens = atoi(argv[3]);
    prepare();
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&at, size) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (struct sockaddr *)&at, &size);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    alarm_fd = timerfd_create(CLOCK_MONOTONIC, 0);
    watch(poll, listener);
    watch(poll, alarm_fd);
    watch(poll, 0);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            char byte;
            int64_t ticks;
            if (fd == 0) { if (read(0, &byte, 1) <= 0) { report(); return 0; } }
            else if (fd == alarm_fd) { if (read(alarm_fd, &ticks, sizeof ticks) < 0) continue; }
            else if (fd == listener) accepted(poll, listener);
            else readable(fd);
        }
        due(now_ns());
    }
}
