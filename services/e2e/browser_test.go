package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	cdp "github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/axpchat/connector/services/connector/dev"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// TestWebChatInABrowser tells the story through the web chat in a real
// browser, with an agent at the desk's page in a second one. Screenshots go to
// artifacts/ at the repository's root.
func TestWebChatInABrowser(t *testing.T) {
	bin := chromium(t)
	s := suitetest.Start(t)
	network := newLine(t, s.HTTP)
	customer, desk := newBrowser(t, bin), newBrowser(t, bin)

	customer.do("open the site", cdp.EmulateViewport(1280, 800), cdp.Navigate(network.url+"/"), cdp.WaitVisible(cdp.CSS("#login-name")))
	customer.shot("01-site")
	customer.do("log in without a name", cdp.Click(cdp.CSS("#login-button")))
	customer.sees("#login-problem", "enter your name")
	customer.do("log in", cdp.SendKeys(cdp.CSS("#login-name"), "Maren Solheim"), cdp.Click(cdp.CSS("#login-button")), cdp.WaitVisible(cdp.CSS("[data-testid=logout]")))
	customer.sees("[data-testid=customer-name]", "Maren Solheim")
	customer.visit("tents", "Tents")
	customer.do("look closer", cdp.Click(cdp.CSS("[data-testid=details-tarn-2]")))
	customer.visit("boots", "Boots")
	customer.shot("02-browsing")
	customer.do("open the chat", cdp.Click(cdp.CSS("[data-testid=chat-open]")), cdp.WaitVisible(cdp.CSS("[data-testid=chat-start]")))
	customer.holds("the topic follows from the page", `document.querySelector("input[name=topic]:checked").value === "Choosing boots"`)
	customer.do("start the chat", cdp.Click(cdp.CSS("[data-testid=chat-start]")))
	customer.sees("[data-testid=chat-status]", "waiting")
	customer.shot("03-waiting")

	desk.do("open the desk", cdp.EmulateViewport(1280, 800), cdp.Navigate(s.Sandbox+"/desk"), cdp.WaitVisible(cdp.CSS("[data-testid=waiting-item]")))
	desk.do("look at the customer", cdp.Click(cdp.CSS("[data-testid=waiting-item] .item")))
	desk.sees(".context", "Home > Tents > Boots")
	desk.sees(".context", "Tarn 2")
	desk.sees(".context", "Choosing boots")
	desk.sees(".chat-head .sub", "waiting for an agent")
	desk.shot("04-desk-waiting")
	desk.do("accept", cdp.Click(cdp.CSS("[data-testid=accept]")), cdp.WaitVisible(cdp.CSS("[data-testid=desk-input]")))
	customer.sees("[data-testid=chat-log]", "joined")
	customer.sees("[data-testid=chat-status]", "chatting with")

	customer.say("Does the family tent stand in wind?")
	desk.sees("[data-testid=desk-log]", "Does the family tent stand in wind?")
	desk.answer("Up to 90 km/h, with all guy lines.")
	said := []string{"Does the family tent stand in wind?", "Up to 90 km/h, with all guy lines."}
	customer.reads(said...)
	customer.holds("the customer's message is delivered", allDelivered)
	customer.shot("05-talking")

	customer.do("close the panel", cdp.Click(cdp.CSS("[data-testid=chat-close]")))
	desk.answer("Shall I show you two?")
	customer.sees(".launcher .badge", "1")
	customer.shot("06-unread")
	customer.do("open it again", cdp.Click(cdp.CSS("[data-testid=chat-open]")))
	customer.holds("nothing is unread", `document.querySelector(".launcher .badge").hidden`)
	desk.do("show cards", cdp.Click(cdp.CSS("[data-testid=sample-carousel]")))
	customer.do("choose one", cdp.WaitVisible(cdp.CSS(".card .action")), cdp.Click(cdp.CSS(".card .action")))
	desk.sees("[data-testid=desk-log]", "Take this one")
	customer.holds("a choice is made once", `[...document.querySelectorAll("button.action")].every(b => b.disabled)`)
	customer.shot("07-cards")
	desk.shot("08-desk-talking")
	said = append(said, "Shall I show you two?", "These two would fit:", "Take this one")
	customer.reads(said...)

	customer.do("reload the page", cdp.Reload())
	customer.reads(said...)
	customer.say("Thank you!")
	desk.sees("[data-testid=desk-log]", "Thank you!")
	said = append(said, "Thank you!")

	second := customer.tab()
	second.do("open the site in a second tab", cdp.EmulateViewport(1280, 800), cdp.Navigate(network.url+"/"), cdp.WaitVisible(cdp.CSS("[data-testid=logout]")))
	second.do("open the chat there", cdp.Click(cdp.CSS("[data-testid=chat-open]")))
	second.reads(said...)
	second.say("And the price?")
	said = append(said, "And the price?")
	customer.reads(said...)

	network.cut()
	customer.holds("the loss of the network shows", `document.querySelector("[data-testid=connection-state]").dataset.state === "reconnecting"`)
	customer.say("Are you there?")
	customer.sees("[data-testid=chat-log] [data-status=sending]", "Are you there?")
	customer.shot("09-cut")
	desk.answer("649 euros.")
	network.mend()
	customer.sees("[data-testid=connection-state]", "connected")
	desk.sees("[data-testid=desk-log]", "Are you there?")
	customer.holds("all is delivered", allDelivered)
	customer.holds("nothing is lost or doubled", countOf(`[data-testid=chat-log] .bubble`, "649 euros.")+` === 1 && `+countOf(`[data-testid=chat-log] .bubble`, "Are you there?")+` === 1`)
	desk.holds("the desk has it once", countOf(`[data-testid=desk-log] .bubble`, "Are you there?")+` === 1`)

	customer.do("use a phone", cdp.EmulateViewport(390, 844))
	customer.holds("the panel fills the screen", `(r => r.x === 0 && r.y === 0 && r.width === 390 && r.height === 844)(document.querySelector(".chat-panel").getBoundingClientRect())`)
	customer.holds("nothing is wider than the screen", `document.documentElement.scrollWidth <= 390 && document.querySelector(".log").scrollWidth <= document.querySelector(".log").clientWidth`)
	customer.holds("the end is in view", `(l => l.scrollHeight - l.scrollTop - l.clientHeight < 2)(document.querySelector(".log"))`)
	customer.shot("10-phone")
	desk.do("leave", cdp.Click(cdp.CSS("[data-testid=leave]")))
	customer.sees("[data-testid=chat-log]", "has left")
	customer.sees("[data-testid=chat-status]", "waiting for the next")

	customer.do("end the chat", cdp.Click(cdp.CSS("[data-testid=chat-end]")), cdp.WaitVisible(cdp.CSS("[data-testid=chat-end-confirm]")))
	customer.shot("11-sure")
	customer.do("yes", cdp.Click(cdp.CSS("[data-testid=chat-end-confirm]")))
	customer.sees("[data-testid=chat-status]", "ended")
	customer.sees("[data-testid=chat-start]", "new chat")
	second.sees("[data-testid=chat-status]", "ended")
	desk.sees(".chat-head .sub", "ended")
	customer.shot("12-ended")
	desk.shot("13-desk-ended")

	customer.do("back to a large screen", cdp.EmulateViewport(1280, 800))
	customer.do("log out", cdp.Click(cdp.CSS("[data-testid=logout]")), cdp.WaitVisible(cdp.CSS("#login-name")))
	customer.holds("nothing is left behind", `sessionStorage.length === 0 && localStorage.length === 0`)
	second.do("the other tab is logged out, too", cdp.WaitVisible(cdp.CSS("#login-name")))
}

// TestWebChatByKeyboardOnAPhone tells the customer's side with keys alone, on a
// small screen, and holds the page to what a screen reader needs.
func TestWebChatByKeyboardOnAPhone(t *testing.T) {
	bin := chromium(t)
	s := suitetest.Start(t)
	desk := s.Desk("Robin")
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	b := newBrowser(t, bin)
	b.do("open the site", cdp.EmulateViewport(390, 844), cdp.Navigate(s.HTTP+"/"), cdp.WaitVisible(cdp.CSS("#login-name")))
	b.shot("20-phone-site")
	b.tabTo("#login-name")
	b.keys("Ida Berg" + kb.Enter)
	b.holds("logged in", `document.querySelector("[data-testid=logout]").getClientRects().length > 0`)
	b.tabTo("[data-testid=page-boots]")
	b.keys(kb.Enter)
	b.focused("h1")
	b.sees("h1", "Boots")

	b.tabTo("[data-testid=chat-open]")
	b.keys(kb.Enter)
	b.focused("[data-testid=chat-start]")
	for range 12 {
		b.keys(kb.Tab)
		b.focused(".chat-panel *")
	}
	b.holds("the page behind the panel is out of reach", `document.querySelector(".site").inert && document.querySelector(".chat-panel").getAttribute("aria-modal") === "true"`)
	b.tabTo("input[name=topic]")
	b.keys(kb.ArrowDown)
	b.holds("the arrow chooses the next topic", `document.querySelector("input[name=topic]:checked").value === "An order or return"`)
	b.tabTo("[data-testid=chat-start]")
	b.keys(kb.Enter)
	b.focused("[data-testid=chat-input]")
	b.shot("21-phone-waiting")

	chat, err := desk.Find(ctx, "Ida Berg", func(c suitetest.DeskChat) bool { return c.Waiting && c.Status == "ACTIVE" })
	if err != nil {
		t.Fatal(err)
	}
	if chat.Conversation != "An order or return" || chat.SessionParameters["currentPage"] != "Boots" {
		t.Errorf("the desk knows topic %q and %v", chat.Conversation, chat.SessionParameters)
	}
	if err := desk.Accept(ctx, chat.DialogID); err != nil {
		t.Fatal(err)
	}
	b.sees("[data-testid=chat-status]", "Robin")
	b.holds("the conversation is a live region", `(l => l.getAttribute("role") === "log" && l.getAttribute("aria-live") === "polite")(document.querySelector("[data-testid=chat-log]"))`)
	b.do("count what a screen reader hears", js(`window.heard = 0; new MutationObserver(all => all.forEach(m => window.heard += m.addedNodes.length)).observe(document.querySelector(".log-list"), {childList: true})`))
	b.keys("Two lines,")
	b.do("a new line", cdp.KeyEvent(kb.Enter, cdp.KeyModifiers(cdp.ModifierShift)))
	b.keys("one message." + kb.Enter)
	b.reads("Two lines,\none message.")
	b.holds("delivered", allDelivered)
	b.holds("the message is heard once, not at each status", `window.heard === 1`)

	b.keys(kb.Escape)
	b.focused("[data-testid=chat-open]")
	if err := desk.Say(ctx, chat.DialogID, "Certainly."); err != nil {
		t.Fatal(err)
	}
	b.holds("the button says what is unread", `document.querySelector("[data-testid=chat-open]").getAttribute("aria-label") === "Open the chat, 1 unread" && document.title.startsWith("(1)")`)
	b.keys(kb.Enter)
	b.focused("[data-testid=chat-input]")
	b.reads("Two lines,\none message.", "Certainly.")
	b.shot("22-phone-talking")

	b.tabTo("[data-testid=chat-end]")
	b.keys(kb.Enter)
	b.focused("[data-testid=chat-end-keep]")
	b.keys(kb.Escape)
	b.focused("[data-testid=chat-end]")
	b.sees("[data-testid=chat-status]", "Robin")
	b.keys(kb.Enter)
	b.tabTo("[data-testid=chat-end-confirm]")
	b.keys(kb.Enter)
	b.sees("[data-testid=chat-status]", "ended")
	b.keys(kb.Escape)
	b.tabTo("[data-testid=logout]")
	b.keys(kb.Enter)
	b.do("logged out", cdp.WaitVisible(cdp.CSS("#login-name")))
}

// TestWebChatAsksWhetherTheCustomerIsStillThere: the warning comes, is answered
// with the button, by key and by writing, survives a reload, and runs out; over
// the WebSocket in one browser, on a phone and by HTTP in another.
func TestWebChatAsksWhetherTheCustomerIsStillThere(t *testing.T) {
	bin := chromium(t)
	s := suitetest.Start(t, func(c *dev.Config) {
		i := &c.Connector.Orchestrator.Idle
		i.Timeout, i.Grace = patience/10, patience/2
	})
	large, phone := newBrowser(t, bin), newBrowser(t, bin)
	large.do("a large screen", cdp.EmulateViewport(1280, 800))
	large.chats(s.HTTP, "Runa")
	large.holds("by WebSocket", `document.querySelector("[data-testid=connection-state]").dataset.transport === "websocket"`)
	large.asked()
	large.focused("[data-testid=chat-input]")
	large.holds("the warning was announced", `document.querySelector("[data-testid=idle-news]").innerText.includes("press")`)
	large.shot("30-still-there")
	large.do("say so", cdp.Click(cdp.CSS("[data-testid=idle-here]")))
	large.notAsked()
	large.focused("[data-testid=chat-input]")
	large.asked()
	large.do("reload the page", cdp.Reload())
	large.asked()
	large.do("close the panel", cdp.Click(cdp.CSS("[data-testid=chat-close]")))
	large.holds("the closed chat asks, too", `document.title.startsWith("(!)") && document.querySelector("[data-testid=chat-open]").getAttribute("aria-label").startsWith("Are you still there?")`)
	large.shot("31-closed-still-there")
	large.do("open it again", cdp.Click(cdp.CSS("[data-testid=chat-open]")))
	large.do("count what a screen reader hears", js(`window.heard = 0; new MutationObserver(() => window.heard++).observe(document.querySelector("[data-testid=idle-news]"), {childList: true})`))

	phone.do("a phone in the dark", cdp.EmulateViewport(390, 844), dark)
	phone.chats(s.HTTP, "Leif", js(`window.WebSocket = function () { throw new Error("none") }`))
	phone.holds("by HTTP", `document.querySelector("[data-testid=connection-state]").dataset.transport === "sse"`)
	phone.asked()
	phone.holds("nothing is wider than the screen", `document.documentElement.scrollWidth <= 390 && (r => r.height >= 44 && r.right <= 390)(document.querySelector("[data-testid=idle-here]").getBoundingClientRect())`)
	phone.shot("32-phone-still-there")
	phone.do("press Escape by accident", cdp.KeyEvent(kb.Escape))
	phone.focused("[data-testid=idle-here]")
	phone.keys(kb.Enter)
	phone.notAsked()
	phone.focused("[data-testid=chat-input]")
	phone.asked()
	phone.keys("I was just")
	phone.notAsked()
	phone.asked()
	phone.keys(" reading." + kb.Enter)
	phone.notAsked()
	phone.reads("I was just reading.")

	for _, b := range []*browser{large, phone} {
		b.sees("[data-testid=chat-status]", "ended")
		b.sees("[data-testid=chat-log]", "The chat ended because nothing was said for a while")
		b.sees("[data-testid=chat-over]", "still here")
		b.notAsked()
	}
	large.holds("the countdown was not read out second by second", `window.heard <= 2`)
	large.shot("33-ended-idle")
	phone.shot("34-phone-ended-idle")
	large.do("start a new chat", cdp.Click(cdp.CSS("[data-testid=chat-start]")))
	large.sees("[data-testid=chat-status]", "waiting")
}

// dark is what a customer with dark colours has.
var dark = cdp.Func(func(ctx context.Context, t *cdp.Target) error {
	params := map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": "dark"}}}
	return t.Call(ctx, "Emulation.setEmulatedMedia", params, &struct{}{})
})

// chats logs in and starts a chat; first is what is done before.
func (b *browser) chats(url, name string, first ...cdp.Action[cdp.Void]) {
	b.t.Helper()
	b.do("open the site", cdp.Navigate(url+"/"), cdp.WaitVisible(cdp.CSS("#login-name")))
	b.do("prepare", first...)
	b.do("log in", cdp.SendKeys(cdp.CSS("#login-name"), name), cdp.Click(cdp.CSS("#login-button")), cdp.WaitVisible(cdp.CSS("[data-testid=logout]")))
	b.holds("connected", `document.querySelector("[data-testid=connection-state]").dataset.state === "online"`)
	b.do("start a chat", cdp.Click(cdp.CSS("[data-testid=chat-open]")), cdp.WaitVisible(cdp.CSS("[data-testid=chat-start]")), cdp.Click(cdp.CSS("[data-testid=chat-start]")))
}

// asked waits until the chat asks whether the customer is still there.
func (b *browser) asked() {
	b.t.Helper()
	b.sees("[data-testid=idle-banner]", "Are you still there? The chat ends in 0:")
}

// notAsked waits until the chat asks no more.
func (b *browser) notAsked() {
	b.t.Helper()
	b.holds("nothing is asked", `document.querySelector("[data-testid=idle-banner]").hidden && !document.title.startsWith("(!)")`)
}

// chromium returns the browser's path.
func chromium(t *testing.T) string {
	t.Helper()
	bin, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed: apt-get install -y --no-install-recommends chromium")
	}
	return bin
}

// allDelivered holds where each message of the customer has its two ticks.
const allDelivered = `(all => all.length > 0 && all.every(m => m.dataset.status === "delivered"))([...document.querySelectorAll("[data-testid=chat-log] [data-from=mine]")])`

// countOf counts the elements with exactly this text, as a script.
func countOf(selector, text string) string {
	return `[...document.querySelectorAll("` + selector + `")].filter(e => e.innerText.trim() === "` + text + `").length`
}

// line is the network between a browser and the gateway; it can be cut.
type line struct {
	url, target string
	mu          sync.Mutex
	isCut       bool
	conns       map[net.Conn]bool
	wg          sync.WaitGroup
}

func newLine(t *testing.T, target string) *line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{url: "http://" + listener.Addr().String(), target: strings.TrimPrefix(target, "http://"), conns: map[net.Conn]bool{}}
	l.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		l.wg.Wait()
	})
	return l
}

func (l *line) carry(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer to.Close()
	l.mu.Lock()
	refused := l.isCut
	l.conns[from], l.conns[to] = !refused, !refused
	l.mu.Unlock()
	if refused {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(from, to)
		_ = from.Close()
	}()
	_, _ = io.Copy(to, from)
	_ = to.Close()
	<-back
}

// cut ends every connection and lets no new one through.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for conn := range l.conns {
		_ = conn.Close()
	}
	clear(l.conns)
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = false
}

// browser is one window with its own profile.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func newBrowser(t *testing.T, bin string) *browser {
	t.Helper()
	opts := append(cdp.DefaultExecAllocatorOptions[:],
		cdp.ExecPath(bin), cdp.NoSandbox, cdp.DisableGPU, cdp.WindowSize(1280, 800),
		cdp.Flag("disable-quic", true), cdp.Flag("disable-component-update", true), cdp.Flag("disable-background-networking", true),
		cdp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"))
	ctx, cancel := cdp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = cdp.NewContext(ctx, cdp.WithErrorf(t.Logf))
	t.Cleanup(cancel)
	return &browser{t: t, ctx: ctx}
}

// js runs a script for its effect.
func js(script string) cdp.Action[cdp.Void] {
	return func(ctx context.Context, t *cdp.Target) (cdp.Void, error) {
		_, err := cdp.Evaluate[bool](script+"; true")(ctx, t)
		return cdp.Void{}, err
	}
}

func (b *browser) do(what string, actions ...cdp.Action[cdp.Void]) {
	b.t.Helper()
	// A timeout's context would end the whole browser at its first use.
	done := make(chan error, 1)
	go func() { done <- cdp.Do(b.ctx, actions...) }()
	select {
	case err := <-done:
		if err != nil {
			b.t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(patience):
		b.shotTo("failed")
		b.t.Fatalf("%s: still not done after %s", what, patience)
	}
}

// sees waits until an element's text holds what a person would read there.
func (b *browser) sees(selector, text string) {
	b.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	have := ""
	for {
		got, err := cdp.Run(b.ctx, cdp.Evaluate[string](`(document.querySelector(`+"`"+selector+"`"+`)||{}).innerText||""`))
		if err == nil {
			have = got
		}
		if strings.Contains(strings.ToLower(have), strings.ToLower(text)) {
			return
		}
		select {
		case <-deadline:
			b.shotTo("failed")
			b.t.Fatalf("%s never shows %q; it shows %q", selector, text, have)
		case <-tick.C:
		}
	}
}

// holds waits until a script says true.
func (b *browser) holds(what, script string) {
	b.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := cdp.Run(b.ctx, cdp.Evaluate[bool](`Boolean(`+script+`)`)); err == nil && ok {
			return
		}
		select {
		case <-deadline:
			b.shotTo("failed")
			b.t.Fatalf("never true: %s: %s", what, script)
		case <-tick.C:
		}
	}
}

// reads waits until the conversation is exactly these texts, in this order,
// leaving out what the service itself says.
func (b *browser) reads(want ...string) {
	b.t.Helper()
	list, err := json.Marshal(want)
	if err != nil {
		b.t.Fatal(err)
	}
	b.holds("the conversation is "+string(list), `JSON.stringify([...document.querySelectorAll("[data-testid=chat-log] [data-kind=message]:not([data-from=system]) .msg-plain")].map(e => e.innerText.trim())) === JSON.stringify(`+string(list)+`)`)
}

// visit goes to one of the site's pages.
func (b *browser) visit(page, heading string) {
	b.t.Helper()
	b.do("visit "+page, cdp.Click(cdp.CSS("[data-testid=page-"+page+"]")))
	b.sees("h1", heading)
}

// answer writes as the agent.
func (b *browser) answer(text string) {
	b.t.Helper()
	b.do("answer", cdp.SendKeys(cdp.CSS("[data-testid=desk-input]"), text), cdp.Click(cdp.CSS("[data-testid=desk-send]")))
	b.sees("[data-testid=desk-log]", text)
}

// tab opens a second tab of the same browser and profile.
func (b *browser) tab() *browser {
	b.t.Helper()
	ctx, cancel := cdp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	return &browser{t: b.t, ctx: ctx}
}

// keys types into whatever has the focus.
func (b *browser) keys(keys string) {
	b.t.Helper()
	b.do("type", cdp.KeyEvent(keys))
}

// tabTo presses Tab until an element has the focus.
func (b *browser) tabTo(selector string) {
	b.t.Helper()
	for range 60 {
		if at, err := cdp.Run(b.ctx, cdp.Evaluate[bool](`document.activeElement.matches("`+selector+`")`)); err == nil && at {
			return
		}
		b.keys(kb.Tab)
	}
	b.shotTo("failed")
	b.t.Fatalf("the Tab key does not reach %s", selector)
}

// focused waits until an element has the focus.
func (b *browser) focused(selector string) {
	b.t.Helper()
	b.holds("the focus is on "+selector, `document.activeElement.matches("`+selector+`")`)
}

func (b *browser) say(text string) {
	b.t.Helper()
	b.do("write", cdp.WaitVisible(cdp.CSS("[data-testid=chat-input]")), cdp.SendKeys(cdp.CSS("[data-testid=chat-input]"), text), cdp.Click(cdp.CSS("[data-testid=chat-send]")))
	b.sees("[data-testid=chat-log]", text)
}

func (b *browser) shot(name string) {
	b.t.Helper()
	b.shotTo(name)
}

func (b *browser) shotTo(name string) {
	png, err := cdp.Run(b.ctx, cdp.CaptureScreenshot())
	if err != nil {
		b.t.Logf("screenshot %s: %v", name, err)
		return
	}
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "..", "..", "artifacts", "browser")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Log(err)
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Log(err)
	}
}
