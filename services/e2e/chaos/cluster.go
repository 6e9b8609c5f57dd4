package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// node is one NATS server.
type node struct {
	*suitetest.Process
	client string // address for clients
}

// cluster is NATS: three nodes whose routes go over links.
type cluster struct {
	nodes  []*node
	routes [][]*Link // from, to
	// life lets one fault at a time take a node away: with two of three gone
	// nothing is stored, which is the majority rule and not what is looked for.
	life sync.Mutex

	nc *nats.Conn // straight to the nodes, for looking
	js jetstream.JetStream
}

const natsConfig = `server_name: %[1]q
listen: %[2]q
jetstream { store_dir: %[3]q, max_mem: 64M, max_file: 4G, sync_interval: "1s" }
cluster {
  name: chaos
  listen: %[4]q
  # Nobody can reach a node but by the links that are named here.
  cluster_advertise: "127.0.0.1:1"
  no_advertise: true
  routes: [%[5]s]
}
`

func (s *stage) newCluster(ctx context.Context) (*cluster, error) {
	c := &cluster{}
	var clients, routes []string
	for range natsNodes {
		client, err := s.ports.Addr()
		if err != nil {
			return nil, err
		}
		route, err := s.ports.Addr()
		if err != nil {
			return nil, err
		}
		clients, routes = append(clients, client), append(routes, route)
	}
	for i := range natsNodes {
		var links []*Link
		var urls []string
		for j := range natsNodes {
			l, err := s.link(ctx, fmt.Sprintf("nats-%d->nats-%d", i, j), routes[j])
			if err != nil {
				return nil, err
			}
			links = append(links, l)
			if i != j {
				urls = append(urls, fmt.Sprintf("%q", "nats-route://"+l.addr()))
			}
		}
		c.routes = append(c.routes, links)
		name := fmt.Sprintf("nats-%d", i)
		file := filepath.Join(s.dir, name+".conf")
		text := fmt.Sprintf(natsConfig, name, clients[i], filepath.Join(s.dir, name+"-store"), routes[i], strings.Join(urls, ", "))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		p, err := s.launch(name, "nats-server", nil, "-c", file)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, &node{Process: p, client: clients[i]})
	}
	return c, c.connect(ctx, s)
}

// connect waits for the cluster to have a leader.
func (c *cluster) connect(ctx context.Context, s *stage) error {
	urls := make([]string, 0, natsNodes)
	for _, n := range c.nodes {
		urls = append(urls, "nats://"+n.client)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := suitetest.Await(ctx, "NATS to listen", func(context.Context) (bool, error) {
		var err error
		c.nc, err = nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.Name("chaos"))
		return err == nil, nil
	})
	if err != nil {
		return err
	}
	s.undo = append(s.undo, c.nc.Close)
	if c.js, err = jetstream.New(c.nc); err != nil {
		return err
	}
	// A stream on all nodes can only be made once they know each other.
	return suitetest.Await(ctx, "the cluster", func(ctx context.Context) (bool, error) {
		try, stop := context.WithTimeout(ctx, 2*time.Second)
		defer stop()
		if _, err := c.js.CreateOrUpdateStream(try, jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe"}, Replicas: natsNodes}); err != nil {
			return false, nil // not yet
		}
		return c.js.DeleteStream(try, "PROBE") == nil, nil
	})
}

var errNoLeader = errors.New("the stream has no leader")

// leader is the node that leads a stream.
func (c *cluster) leader(ctx context.Context, stream string) (int, error) {
	found := -1
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := suitetest.Await(ctx, "a leader of "+stream, func(ctx context.Context) (bool, error) {
		info, err := c.info(ctx, stream)
		if err != nil || info.Cluster == nil {
			return false, nil //nolint:nilerr // there is none at the moment
		}
		for i, n := range c.nodes {
			if n.Name == info.Cluster.Leader {
				found = i
			}
		}
		return found >= 0, nil
	})
	if found < 0 && err == nil {
		err = errNoLeader
	}
	return found, err
}

func (c *cluster) info(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	try, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	s, err := c.js.Stream(try, stream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// consumers tells how the consumers of a stream stand, for finding out why
// something was not worked.
func (c *cluster) consumers(ctx context.Context, stream string) []string {
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return []string{err.Error()}
	}
	info := s.CachedInfo()
	out := []string{fmt.Sprintf("%s: %d messages, led by %s", stream, info.State.Msgs, info.Cluster.Leader)}
	list := s.ListConsumers(ctx)
	for i := range list.Info() {
		var line strings.Builder
		fmt.Fprintf(&line, "%s: pending %d, ack pending %d, redelivered %d, waiting %d, delivered %d/%d, acked %d/%d", i.Name, i.NumPending, i.NumAckPending,
			i.NumRedelivered, i.NumWaiting, i.Delivered.Consumer, i.Delivered.Stream, i.AckFloor.Consumer, i.AckFloor.Stream)
		if i.Cluster != nil {
			fmt.Fprintf(&line, ", led by %s", i.Cluster.Leader)
		}
		for _, g := range i.PriorityGroups {
			fmt.Fprintf(&line, ", pinned %s since %s", g.PinnedClientID, g.PinnedTS.Format(time.TimeOnly))
		}
		out = append(out, line.String())
	}
	if list.Err() != nil {
		out = append(out, list.Err().Error())
	}
	return out
}

// whole waits until every replica of every stream is up to date: until then
// another node may not be taken away.
func (c *cluster) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	what := ""
	err := suitetest.Await(ctx, "all replicas", func(ctx context.Context) (bool, error) {
		try, stop := context.WithTimeout(ctx, 3*time.Second)
		defer stop()
		list := c.js.ListStreams(try)
		for info := range list.Info() {
			if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != natsNodes-1 {
				what = info.Config.Name + " has no leader"
				return false, nil
			}
			for _, r := range info.Cluster.Replicas {
				if r.Offline || !r.Current {
					what = info.Config.Name + " on " + r.Name + " is behind"
					return false, nil
				}
			}
		}
		if list.Err() != nil {
			what = list.Err().Error()
		}
		return list.Err() == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w (%s)", err, what)
	}
	return nil
}

// part cuts a node off from the other ones; its clients still reach it.
func (c *cluster) part(i int) {
	for j := range natsNodes {
		c.routes[i][j].set(stalled, 0)
		c.routes[j][i].set(stalled, 0)
	}
}

// rejoin ends part.
func (c *cluster) rejoin() {
	for _, from := range c.routes {
		for _, l := range from {
			l.heal()
		}
	}
}
