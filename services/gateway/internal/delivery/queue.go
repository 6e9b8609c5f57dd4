package delivery

// queue holds events for one client, bounded in bytes. Its owner guards it.
type queue struct {
	items []item
	bytes int
	limit int
}

// fits tells whether so many bytes may be added. An empty queue takes anything:
// an event that is larger than the queue must still get through.
func (q *queue) fits(bytes int) bool { return len(q.items) == 0 || q.bytes+bytes <= q.limit }

// push adds an event; false when the queue is full.
func (q *queue) push(it item) bool {
	if !q.fits(it.bytes) {
		return false
	}
	q.items = append(q.items, it)
	q.bytes += it.bytes
	return true
}

// pop removes the oldest event.
func (q *queue) pop() (item, bool) {
	if len(q.items) == 0 {
		return item{}, false
	}
	it := q.items[0]
	q.items[0] = item{} // the event must not live on in the array
	q.items = q.items[1:]
	q.bytes -= it.bytes
	if len(q.items) == 0 {
		q.items = nil
	}
	return it, true
}
