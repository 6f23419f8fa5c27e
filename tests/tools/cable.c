/* A cable that takes its time: every packet that comes in at one interface leaves at the other MICROSECONDS
 * later, both ways. For kernels without netem.
 *
 *     cable INTERFACE INTERFACE MICROSECONDS
 *
 * Needs root. The hosts at its ends must not leave checksums and cutting to their interfaces (ethtool -K). */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PACKETS = 8192, BYTES = 2048 };

typedef struct packet {
  double due_s;
  ssize_t n;
  unsigned char bytes[BYTES];
} packet;

/* One way: a ring of packets under way. Where it is full a packet is lost, as in a switch. */
typedef struct way {
  int from, to;
  unsigned first, next;
  packet *ring;
} way;

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int open_end(const char *name) {
  int s = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL)), room = 8 << 20;
  struct sockaddr_ll at = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(name)};
  struct packet_mreq all = {.mr_ifindex = at.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
  if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof at) ||
      setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all)) {
    perror(name);
    exit(1);
  }
  setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  return s;
}

static void take_in(way *w, double delay_s) {
  struct sockaddr_ll from;
  socklen_t n = sizeof from;
  for (;;) {
    packet *p = &w->ring[w->next % PACKETS];
    p->n = recvfrom(w->from, p->bytes, BYTES, MSG_TRUNC, (struct sockaddr *)&from, &n);
    if (p->n < 0) return;
    if (from.sll_pkttype == PACKET_OUTGOING || p->n > BYTES || w->next - w->first == PACKETS) continue;
    p->due_s = now_s() + delay_s;
    w->next++;
  }
}

/* Seconds until the next packet is due, at most most_s. */
static double give_out(way *w, double most_s) {
  while (w->first != w->next) {
    const packet *p = &w->ring[w->first % PACKETS];
    double left_s = p->due_s - now_s();
    if (left_s > 0) return left_s < most_s ? left_s : most_s;
    if (send(w->to, p->bytes, (size_t)p->n, 0) < 0) return most_s < 1e-4 ? most_s : 1e-4;
    w->first++;
  }
  return most_s;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  double delay_s = 1e-6 * strtod(argv[3], NULL);
  int a = open_end(argv[1]), b = open_end(argv[2]);
  way ways[2] = {{.from = a, .to = b}, {.from = b, .to = a}};
  struct pollfd ends[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
  for (int i = 0; i < 2; i++)
    if (!(ways[i].ring = calloc(PACKETS, sizeof(packet)))) return 1;
  for (;;) {
    double wait_s = 0.1;
    for (int i = 0; i < 2; i++) take_in(&ways[i], delay_s);
    for (int i = 0; i < 2; i++) wait_s = give_out(&ways[i], wait_s);
    struct timespec t = {.tv_nsec = (long)(1e9 * wait_s)};
    ppoll(ends, 2, &t, NULL);
  }
}
