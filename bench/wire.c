/* Both ends of a gRPC call, compiled, for benchmarks only: so that what stands between them is what is measured.

       wire serve RESPONSE
           answers every request with the bytes of this file; prints its address, and ends with its input
       wire call ADDRESS PATH BODY SERIAL COUNT CONNECTIONS STREAMS RATE
           sends the bytes of this file COUNT times, each with another serial number (from SERIAL on) in place of every
           "################" in it; prints each call's latency in microseconds, a line each

   RATE 0: every connection keeps STREAMS calls under way. Else so many calls a second, evenly, whatever became of the
   ones before; a latency then counts from when its call was due, so that a wait before it is sent is not forgotten.
   A call that does not end with status 0 ends the program with exit code 1.

   Over nghttp2 (Debian: libnghttp2-dev); one thread each. h2load would send the same bytes every time, which a router's
   workers take for one input asked again, and does not see that a call failed: gRPC says so in the trailers. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_PEERS = 1024, PREFIX = 5, MARK = 16, OUT = 1 << 16 };

/* One connection. What it has to send is gathered, so that a call's three frames leave in one write. */
struct peer {
  int fd;
  nghttp2_session *session;
  uint8_t out[OUT];
  size_t begin, end;
  const uint8_t *large; /* a piece that does not fit behind what is gathered, still nghttp2's */
  size_t large_size;
  int under_way;
};

/* The caller's side of one call. */
struct call {
  struct peer *peer;
  double due;
  uint8_t *body;
  size_t sent;
  int status;
  char heard[512]; /* its response's headers and trailers, for what is said when it fails */
};

static struct peer *peers[MOST_PEERS];
static nghttp2_session_callbacks *callbacks;
static uint8_t *message; /* with gRPC's prefix: a byte, and the length in four */
static size_t message_size;
static long called, ended, wanted, serial;
static double *latencies;

static void die(const char *what) {
  fprintf(stderr, "wire: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void read_message(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) die(path);
  fseek(file, 0, SEEK_END);
  size_t size = ftell(file);
  rewind(file);
  message = malloc(size + PREFIX);
  message_size = size + PREFIX;
  message[0] = 0;
  for (int i = 0; i < 4; i++) message[1 + i] = size >> (24 - 8 * i);
  if (fread(message + PREFIX, 1, size, file) != size) die(path);
  fclose(file);
}

#define HEADER(name, value)                                                                                    \
  { (uint8_t *)(name), (uint8_t *)(value), strlen(name), strlen(value),                                        \
    NGHTTP2_NV_FLAG_NONE }

/* --- connections ----------------------------------------------------------------------------------------------- */

static int flush(struct peer *peer) {
  for (;;) {
    while (!peer->large_size) {
      ssize_t n = nghttp2_session_mem_send(peer->session, &peer->large);
      if (n < 0) return -1;
      if (n == 0) break;
      peer->large_size = n;
      if (peer->end + n > OUT) break;
      memcpy(peer->out + peer->end, peer->large, n);
      peer->end += n;
      peer->large_size = 0;
    }
    const uint8_t *from = peer->begin < peer->end ? peer->out + peer->begin : peer->large;
    size_t left = peer->begin < peer->end ? peer->end - peer->begin : peer->large_size;
    if (!left) return 0;
    ssize_t n = send(peer->fd, from, left, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    if (peer->begin < peer->end) {
      peer->begin += n;
      if (peer->begin == peer->end) peer->begin = peer->end = 0;
    } else {
      peer->large += n;
      peer->large_size -= n;
    }
  }
}

static int receive(struct peer *peer) {
  static uint8_t buffer[1 << 16];
  for (;;) {
    ssize_t n = recv(peer->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) return -1;
    if (nghttp2_session_mem_recv(peer->session, buffer, n) < 0) return -1;
    if (n < (ssize_t)sizeof buffer) return 0;
  }
}

static struct peer *adopt(int fd, int serves) {
  int slot = 0, one = 1;
  while (slot < MOST_PEERS && peers[slot]) slot++;
  if (slot == MOST_PEERS) die("too many connections");
  struct peer *peer = peers[slot] = calloc(1, sizeof *peer);
  peer->fd = fd;
  fcntl(fd, F_SETFL, O_NONBLOCK);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (serves)
    nghttp2_session_server_new(&peer->session, callbacks, peer);
  else
    nghttp2_session_client_new(&peer->session, callbacks, peer);
  nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1 << 16},
                                       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20}};
  nghttp2_submit_settings(peer->session, NGHTTP2_FLAG_NONE, settings, 2);
  return peer;
}

static void drop(int slot) {
  nghttp2_session_del(peers[slot]->session);
  close(peers[slot]->fd);
  free(peers[slot]);
  peers[slot] = NULL;
}

/* Wait for `until` (seconds on the clock; below 0: for ever), and read and write what can be. 0 when the input ended. */
static int turn(int listener, double until) {
  struct pollfd polled[MOST_PEERS + 2];
  int slots[MOST_PEERS + 2], count = 0;
  for (int slot = 0; slot < MOST_PEERS; slot++)
    if (peers[slot]) {
      int waits = peers[slot]->begin < peers[slot]->end || peers[slot]->large_size;
      polled[count] = (struct pollfd){peers[slot]->fd, POLLIN | (waits ? POLLOUT : 0), 0};
      slots[count++] = slot;
    }
  int connections = count;
  if (listener >= 0) {
    polled[count++] = (struct pollfd){listener, POLLIN, 0};
    polled[count++] = (struct pollfd){0, POLLIN, 0};
  }
  double left = until - now();
  if (left < 0) left = 0;
  struct timespec limit = {(time_t)left, (long)((left - (time_t)left) * 1e9)};
  if (ppoll(polled, count, until < 0 ? NULL : &limit, NULL) < 0 && errno != EINTR) die("poll");
  for (int i = 0; i < connections; i++) {
    if (!polled[i].revents) continue;
    int bad = (polled[i].revents & ~POLLOUT && receive(peers[slots[i]])) || flush(peers[slots[i]]);
    if (!bad) continue;
    if (listener < 0) die("a connection ended");
    drop(slots[i]);
  }
  if (listener < 0) return 1;
  if (polled[connections].revents) {
    int fd = accept(listener, NULL, NULL);
    if (fd >= 0) flush(adopt(fd, 1));
  }
  char ignored[256];
  return !polled[connections + 1].revents || read(0, ignored, sizeof ignored) > 0;
}

/* --- serve ----------------------------------------------------------------------------------------------------- */

static ssize_t answer(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
                      nghttp2_data_source *source, void *user) {
  (void)user;
  size_t left = message_size - source->fd, n = left < room ? left : room;
  memcpy(to, message + source->fd, n);
  source->fd += n;
  if (n == left) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_nv trailer = HEADER("grpc-status", "0");
    nghttp2_submit_trailer(session, stream, &trailer, 1);
  }
  return n;
}

static int asked(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
  (void)user;
  if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
  if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) return 0;
  nghttp2_nv headers[] = {HEADER(":status", "200"), HEADER("content-type", "application/grpc")};
  nghttp2_data_provider body = {.source = {.fd = 0}, .read_callback = answer};
  return nghttp2_submit_response(session, frame->hd.stream_id, headers, 2, &body);
}

static void serve(void) {
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, asked);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 128)) die("listen");
  getsockname(listener, (struct sockaddr *)&address, &size);
  printf("127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);
  while (turn(listener, -1)) {
  }
}

/* --- call ------------------------------------------------------------------------------------------------------ */

static const char *authority, *method;

static ssize_t ask(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
                   nghttp2_data_source *source, void *user) {
  (void)session, (void)stream, (void)user;
  struct call *call = source->ptr;
  size_t left = message_size - call->sent, n = left < room ? left : room;
  memcpy(to, call->body + call->sent, n);
  call->sent += n;
  if (n == left) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return n;
}

static void begin(struct peer *peer, double due) {
  struct call *call = calloc(1, sizeof *call);
  *call = (struct call){.peer = peer, .due = due, .body = malloc(message_size), .status = -1};
  memcpy(call->body, message, message_size);
  char number[MARK + 1];
  snprintf(number, sizeof number, "%016ld", serial++);
  for (uint8_t *at = call->body; (at = memmem(at, call->body + message_size - at, "################", MARK)); at += MARK)
    memcpy(at, number, MARK);
  nghttp2_nv headers[] = {HEADER(":method", "POST"),      HEADER(":scheme", "http"),
                          HEADER(":path", method),        HEADER(":authority", authority),
                          HEADER("te", "trailers"),       HEADER("content-type", "application/grpc"),
                          HEADER("grpc-timeout", "30S")};
  nghttp2_data_provider body = {.source = {.ptr = call}, .read_callback = ask};
  if (nghttp2_submit_request(peer->session, NULL, headers, 7, &body, call) < 0) die("no more streams");
  called++;
  peer->under_way++;
}

static int heard(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                 const uint8_t *value, size_t value_size, uint8_t flags, void *user) {
  (void)flags, (void)user;
  struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
  if (call && name_size == 11 && !memcmp(name, "grpc-status", 11)) call->status = value_size == 1 ? *value - '0' : 99;
  if (call) {
    size_t begun = strlen(call->heard);
    snprintf(call->heard + begun, sizeof call->heard - begun, " %.*s=%.*s", (int)name_size, (const char *)name,
             (int)value_size, (const char *)value);
  }
  return 0;
}

static int over(nghttp2_session *session, int32_t stream, uint32_t error, void *user) {
  (void)user;
  struct call *call = nghttp2_session_get_stream_user_data(session, stream);
  if (!call) return 0;
  errno = 0;
  if (error || call->status) {
    fprintf(stderr, "wire: a call ended after %.3f s with status %d, HTTP/2 error %u; %d others were under way;%s\n",
            now() - call->due, call->status, error, call->peer->under_way - 1, call->heard);
    exit(1);
  }
  latencies[ended++] = (now() - call->due) * 1e6;
  call->peer->under_way--;
  free(call->body);
  free(call);
  return 0;
}

static void call_all(int connections, int streams, double rate) {
  nghttp2_session_callbacks_set_on_header_callback(callbacks, heard);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, over);
  latencies = calloc(wanted, sizeof *latencies);
  struct sockaddr_in to = {.sin_family = AF_INET};
  const char *colon = strrchr(authority, ':');
  char host[64] = "";
  if (!colon || colon - authority >= (long)sizeof host) die("ADDRESS is host:port");
  memcpy(host, authority, colon - authority);
  to.sin_port = htons(atoi(colon + 1));
  if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die("ADDRESS begins with an IPv4 address");
  for (int i = 0; i < connections; i++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die(authority);
    adopt(fd, 0);
  }
  double began = now(), due = began;
  while (ended < wanted) {
    if (rate > 0)
      while (called < wanted && (due = began + called / rate) <= now()) begin(peers[called % connections], due);
    else
      for (int i = 0; i < connections; i++)
        while (called < wanted && peers[i]->under_way < streams) begin(peers[i], now());
    for (int i = 0; i < connections; i++)
      if (flush(peers[i])) die("a connection ended");
    turn(-1, rate > 0 && called < wanted ? began + called / rate : -1);
  }
  for (long i = 0; i < wanted; i++) printf("%.1f\n", latencies[i]);
}

int main(int count, char **arguments) {
  errno = 0;
  nghttp2_session_callbacks_new(&callbacks);
  if (count == 3 && !strcmp(arguments[1], "serve")) {
    read_message(arguments[2]);
    serve();
  } else if (count == 10 && !strcmp(arguments[1], "call")) {
    authority = arguments[2];
    method = arguments[3];
    read_message(arguments[4]);
    serial = atol(arguments[5]);
    wanted = atol(arguments[6]);
    int connections = atoi(arguments[7]), streams = atoi(arguments[8]);
    if (wanted < 1 || connections < 1 || connections > MOST_PEERS || streams < 1) die("nothing to do");
    call_all(connections, streams, atof(arguments[9]));
  } else {
    die("usage: wire serve RESPONSE | wire call ADDRESS PATH BODY SERIAL COUNT CONNECTIONS STREAMS RATE");
  }
  return 0;
}
