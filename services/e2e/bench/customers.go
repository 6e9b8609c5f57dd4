package bench

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// customers write messages to AXP, each in a chat of their own.
type customers struct {
	all   []*customer
	texts map[string]int // that were accepted, and how often AXP should have them: once
	next  int
}

type customer struct {
	conn            *grpc.ClientConn
	client          axpchatv1.ChatServiceClient
	token           string
	session, inChat string
}

func tokenOf(subject string) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": subject, "account": account, "name": subject, "exp": time.Now().Add(time.Hour).Unix(),
		"identifiers": map[string][]string{"emailAddresses": {subject + "@example.net"}},
	}).SignedString([]byte(suitetest.TokenSecret))
}

// newCustomers begins n chats.
func newCustomers(ctx context.Context, s *side, n int) (*customers, error) {
	cs := &customers{texts: map[string]int{}}
	for i := range n {
		c := &customer{}
		var err error
		if c.token, err = tokenOf(fmt.Sprintf("bench-writer-%d", i)); err != nil {
			return cs, err
		}
		if c.conn, err = s.dial(); err != nil {
			return cs, err
		}
		cs.all = append(cs.all, c)
		c.client = axpchatv1.NewChatServiceClient(c.conn)
		session, err := c.client.CreateSession(withToken(ctx, c.token), &axpchatv1.CreateSessionRequest{DisplayName: "Ines Duarte"})
		if err != nil {
			return cs, fmt.Errorf("create session: %w", err)
		}
		c.session = session.GetSession().GetSessionId()
		chat, err := c.client.CreateEngagement(withToken(ctx, c.token), &axpchatv1.CreateEngagementRequest{SessionId: c.session})
		if err != nil {
			return cs, fmt.Errorf("create engagement: %w", err)
		}
		c.inChat = chat.GetEngagement().GetEngagementId()
	}
	return cs, nil
}

func (cs *customers) close() {
	for _, c := range cs.all {
		_ = c.conn.Close() // nothing is under way
	}
}

// write sends n messages at a rate, whatever became of those before, and returns
// how long each took from its sending to the answer. All must be accepted.
func (cs *customers) write(ctx context.Context, n int, rate float64) ([]int64, error) {
	took := make([]int64, n)
	r := newRound(0, n)
	due := make(chan int, n)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(due)
		return pace(ctx, r, n, rate, due)
	})
	first := cs.next
	cs.next += n
	var mu sync.Mutex
	for range min(n, writers) {
		group.Go(func() error {
			for i := range due {
				text := fmt.Sprintf("message %d of the customers", first+i)
				c := cs.all[(first+i)%len(cs.all)]
				began := time.Now()
				one, stop := context.WithTimeout(withToken(ctx, c.token), answerMax)
				_, err := c.client.SendMessage(one, &axpchatv1.SendMessageRequest{
					SessionId: c.session, EngagementId: c.inChat, ClientMessageId: fmt.Sprint("m", first+i), Text: text,
				})
				stop()
				if err != nil {
					return fmt.Errorf("message %d of a customer: %w", first+i, err)
				}
				took[i] = int64(time.Since(began))
				mu.Lock()
				cs.texts[text] = 1
				mu.Unlock()
			}
			return nil
		})
	}
	return took, group.Wait()
}

// writers is how many messages can be under way.
const writers = 32

// verdict is nil when AXP has every message once; it waits for those under way.
func (cs *customers) verdict(ctx context.Context, desk suitetest.Desk) error {
	ctx, cancel := context.WithTimeout(ctx, setupMax)
	defer cancel()
	have := map[string]int{}
	err := suitetest.Await(ctx, "the customers' messages at AXP", func(ctx context.Context) (bool, error) {
		chats, err := desk.Chats(ctx)
		clear(have)
		for _, chat := range chats {
			for _, text := range chat.CustomerTexts() {
				have[text]++
			}
		}
		return len(have) >= len(cs.texts), err
	})
	if !maps.Equal(have, cs.texts) {
		var wrong []string
		for text := range cs.texts {
			if have[text] != 1 {
				wrong = append(wrong, fmt.Sprintf("%q %d times", text, have[text]))
			}
		}
		slices.Sort(wrong)
		return fmt.Errorf("AXP has %d of %d messages: %v (%w)", len(have), len(cs.texts), wrong[:min(5, len(wrong))], err)
	}
	return err
}
