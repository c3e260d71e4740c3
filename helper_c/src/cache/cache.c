/*
 * The table of remembered chains: found by their bytes, compared in full, the
 * least lately used one given up first. An entry never changes; whoever walks
 * its trail holds it without the lock, because a stat(2) may take its time.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cache/trail.h"
#include "pilotage/cache.h"

#define NONE	UINT32_MAX
#define FQAN	128		/* what the caller keeps of one, on average */

struct entry {
	uint64_t		 hash;
	uint64_t		 ticket;
	int64_t			 from;	/* the answer holds in [from, until) */
	int64_t			 until;
	struct pil_trail	 trail;
	size_t			 size;	/* of all this, for the bound */
	unsigned		 users;	/* the table is one */
	size_t			 len;
	unsigned char		 der[];
};

struct slot {
	struct entry	*entry;		/* NULL: free */
	uint32_t	 next;		/* of the same bucket, or free */
	uint32_t	 older;
	uint32_t	 newer;
};

struct pil_cache {
	pthread_mutex_t				 lock;
	const struct pil_verify_options		*opt;
	size_t					 bytes_max;
	uint32_t				 size;
	uint32_t				 mask;
	uint32_t				 free;
	uint32_t				 oldest;
	uint32_t				 newest;
	uint64_t				 generation;
	struct pil_cache_state			 state;
	uint32_t				*buckets;
	struct slot				*slots;
};

/* Only spreads: a chain is found by all its bytes. */
static uint64_t
hash_of(const unsigned char *data, size_t len)
{
	uint64_t hash = len, word;

	for (; len > 0; data += sizeof(word), len -= sizeof(word)) {
		word = 0;
		memcpy(&word, data, len < sizeof(word) ? len : sizeof(word));
		hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
		hash ^= hash >> 32;
		if (len < sizeof(word))
			break;
	}
	return hash;
}

static void
release(struct entry *e)
{
	if (--e->users > 0)
		return;
	pil_trail_end(&e->trail);
	free(e);
}

/* The order of use, newest at one end. */
static void
unlink_slot(struct pil_cache *c, uint32_t i)
{
	struct slot *s = &c->slots[i];

	if (s->older != NONE)
		c->slots[s->older].newer = s->newer;
	else
		c->oldest = s->newer;
	if (s->newer != NONE)
		c->slots[s->newer].older = s->older;
	else
		c->newest = s->older;
}

static void
link_newest(struct pil_cache *c, uint32_t i)
{
	struct slot *s = &c->slots[i];

	s->newer = NONE;
	s->older = c->newest;
	if (c->newest != NONE)
		c->slots[c->newest].newer = i;
	else
		c->oldest = i;
	c->newest = i;
}

static uint32_t
search(const struct pil_cache *c, uint64_t hash, const void *der, size_t len)
{
	uint32_t i = c->buckets[hash & c->mask];

	for (; i != NONE; i = c->slots[i].next) {
		const struct entry *e = c->slots[i].entry;

		if (e->hash == hash && e->len == len &&
		    memcmp(e->der, der, len) == 0)
			return i;
	}
	return NONE;
}

static void
forget(struct pil_cache *c, uint32_t i)
{
	struct slot *s = &c->slots[i];
	uint32_t *at = &c->buckets[s->entry->hash & c->mask];

	while (*at != i)
		at = &c->slots[*at].next;
	*at = s->next;
	unlink_slot(c, i);
	c->state.entries--;
	c->state.bytes -= s->entry->size;
	release(s->entry);
	s->entry = NULL;
	s->next = c->free;
	c->free = i;
}

/* Put the entry in a free slot, and give up what there is no room for. */
static void
insert(struct pil_cache *c, struct entry *e)
{
	uint32_t i = search(c, e->hash, e->der, e->len), *bucket;

	if (i != NONE)
		forget(c, i);
	while (c->free == NONE || c->state.bytes + e->size > c->bytes_max) {
		c->state.evicted++;
		forget(c, c->oldest);
	}
	i = c->free;
	c->free = c->slots[i].next;
	bucket = &c->buckets[e->hash & c->mask];
	e->ticket = ++c->generation * c->size + i;
	c->slots[i].entry = e;
	c->slots[i].next = *bucket;
	*bucket = i;
	link_newest(c, i);
	c->state.entries++;
	c->state.bytes += e->size;
	c->state.kept++;
}

static int
set_up(struct pil_cache *c)
{
	uint32_t i;

	for (c->mask = 1; c->mask < c->size; c->mask *= 2)
		continue;
	c->buckets = malloc(c->mask * sizeof(*c->buckets));
	c->slots = calloc(c->size, sizeof(*c->slots));
	if (c->buckets == NULL || c->slots == NULL ||
	    pthread_mutex_init(&c->lock, NULL) != 0)
		return 0;
	for (i = 0; i < c->mask; i++)
		c->buckets[i] = NONE;
	for (i = 0; i < c->size; i++)
		c->slots[i].next = i + 1 < c->size ? i + 1 : NONE;
	c->mask--;
	c->free = 0;
	c->oldest = c->newest = NONE;
	return 1;
}

struct pil_cache *
pil_cache_new(const struct pil_verify_options *opt, uint32_t entries,
    size_t bytes)
{
	struct pil_cache *c = calloc(1, sizeof(*c));

	if (c == NULL || entries == 0 || entries > 1u << 24) {
		free(c);
		return NULL;
	}
	c->opt = opt;
	c->size = entries;
	c->bytes_max = bytes;
	if (!set_up(c)) {
		free(c->buckets);
		free(c->slots);
		free(c);
		return NULL;
	}
	return c;
}

void
pil_cache_free(struct pil_cache *c)
{
	if (c == NULL)
		return;
	while (c->oldest != NONE)
		forget(c, c->oldest);
	(void)pthread_mutex_destroy(&c->lock);
	free(c->buckets);
	free(c->slots);
	free(c);
}

static struct entry *
borrow(struct pil_cache *c, uint64_t hash, const void *der, size_t len)
{
	struct entry *e = NULL;
	uint32_t i;

	(void)pthread_mutex_lock(&c->lock);
	if ((i = search(c, hash, der, len)) != NONE) {
		e = c->slots[i].entry;
		e->users++;
	}
	(void)pthread_mutex_unlock(&c->lock);
	return e;
}

/* What changed is of no use to anybody; another second may be. */
static void
give_back(struct pil_cache *c, struct entry *e, int hit, int same)
{
	uint32_t i = (uint32_t)(e->ticket % c->size);

	(void)pthread_mutex_lock(&c->lock);
	c->state.hits += hit ? 1 : 0;
	if (c->slots[i].entry == e) {
		if (!same) {
			c->state.changed++;
			forget(c, i);
		} else if (hit) {
			unlink_slot(c, i);
			link_newest(c, i);
		}
	}
	release(e);
	(void)pthread_mutex_unlock(&c->lock);
}

uint64_t
pil_cache_find(struct pil_cache *c, const void *der, size_t len, int64_t at)
{
	int64_t now = at != 0 ? at : pil_clock();
	uint64_t ticket;
	struct entry *e;
	int hit, same;

	e = borrow(c, hash_of(der, len), der, len);
	if (e == NULL)
		return 0;
	hit = now >= e->from && now < e->until;
	same = !hit || pil_trail_same(&e->trail);
	ticket = hit && same ? e->ticket : 0;
	give_back(c, e, ticket != 0, same);
	return ticket;
}

/* Takes the trail over where it can. */
static uint64_t
remember(struct pil_cache *c, struct pil_trail *trail, const void *der,
    size_t len, const struct pil_identity *who)
{
	uint64_t ticket;
	struct entry *e;
	size_t size;

	size = sizeof(*e) + len + pil_trail_size(trail) +
	    (size_t)who->fqan_count * FQAN;
	if (size > c->bytes_max || (e = malloc(sizeof(*e) + len)) == NULL)
		return 0;
	e->hash = hash_of(der, len);
	e->from = trail->watch.from;
	e->until = trail->watch.until;
	e->trail = *trail;
	memset(trail, 0, sizeof(*trail));
	e->size = size;
	e->users = 1;
	e->len = len;
	memcpy(e->der, der, len);
	(void)pthread_mutex_lock(&c->lock);
	insert(c, e);
	ticket = e->ticket;
	(void)pthread_mutex_unlock(&c->lock);
	return ticket;
}

enum pil_reason
pil_cache_verify(struct pil_cache *c, const void *der, size_t len, int64_t at,
    struct pil_identity *who, uint64_t *ticket)
{
	struct pil_verify_options asked = *c->opt;
	struct pil_trail trail;
	enum pil_reason reason;

	*ticket = 0;
	asked.at = at;
	pil_trail_begin(&trail);
	reason = pil_verify_watched(&asked, &trail.watch, 0, der, len, who);
	/* What changed meanwhile may have been read before or after it did. */
	if (reason == PIL_OK && pil_trail_same(&trail))
		*ticket = remember(c, &trail, der, len, who);
	pil_trail_end(&trail);
	return reason;
}

void
pil_cache_look(struct pil_cache *c, struct pil_cache_state *state)
{
	(void)pthread_mutex_lock(&c->lock);
	*state = c->state;
	(void)pthread_mutex_unlock(&c->lock);
}
