package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	cdp "github.com/chromedp/chromedp"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// TestWebChatInABrowser tells the story through the web chat in a real
// browser, with an agent at the desk's page in a second tab. Screenshots go to
// artifacts/ at the repository's root.
func TestWebChatInABrowser(t *testing.T) {
	bin, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed: apt-get install -y --no-install-recommends chromium")
	}
	s := suitetest.Start(t)
	customer, desk := newBrowser(t, bin), newBrowser(t, bin)

	customer.do("open the site", cdp.EmulateViewport(1280, 800), cdp.Navigate(s.HTTP+"/"), cdp.WaitVisible(cdp.CSS("#login-name")))
	customer.shot("01-site")
	customer.do("log in", cdp.SendKeys(cdp.CSS("#login-name"), "Maren Solheim"), cdp.Click(cdp.CSS("#login-button")), cdp.WaitVisible(cdp.CSS("[data-testid=logout]")))
	customer.browse()
	customer.shot("02-browsing")
	customer.do("open the chat", cdp.Click(cdp.CSS("[data-testid=chat-open]")), cdp.WaitVisible(cdp.CSS("[data-testid=chat-start]")))
	customer.do("start the chat", cdp.Click(cdp.CSS("[data-testid=chat-start]")))
	customer.sees("[data-testid=chat-status]", "waiting")
	customer.shot("03-waiting")

	desk.do("open the desk", cdp.EmulateViewport(1280, 800), cdp.Navigate(s.Sandbox+"/desk"), cdp.WaitVisible(cdp.CSS("[data-testid=waiting-item]")))
	desk.sees("body", "Maren Solheim")
	desk.shot("04-desk-waiting")
	desk.do("accept", cdp.Click(cdp.CSS("[data-testid=accept]")), cdp.WaitVisible(cdp.CSS("[data-testid=desk-input]")))
	customer.sees("[data-testid=chat-log]", "joined")

	customer.say("Does the family tent stand in wind?")
	desk.sees("[data-testid=desk-log]", "Does the family tent stand in wind?")
	desk.do("answer", cdp.SendKeys(cdp.CSS("[data-testid=desk-input]"), "Up to 90 km/h, with all guy lines."), cdp.Click(cdp.CSS("[data-testid=desk-send]")))
	customer.sees("[data-testid=chat-log]", "Up to 90 km/h")
	customer.sees("[data-testid=chat-log]", "delivered")
	customer.shot("05-talking")
	desk.shot("06-desk-talking")

	customer.do("reload the page", cdp.Reload())
	customer.sees("[data-testid=chat-log]", "Up to 90 km/h")
	customer.say("Thank you!")
	desk.sees("[data-testid=desk-log]", "Thank you!")

	customer.do("use a phone", cdp.EmulateViewport(390, 844))
	customer.shot("07-phone")
	desk.do("leave", cdp.Click(cdp.CSS("[data-testid=leave]")))
	customer.sees("[data-testid=chat-log]", "left")

	customer.do("end the chat", cdp.Click(cdp.CSS("[data-testid=chat-end]")))
	customer.confirm()
	customer.sees("[data-testid=chat-status]", "ended")
	customer.shot("08-ended")
	customer.do("back to a large screen", cdp.EmulateViewport(1280, 800))
	customer.do("log out", js(`document.querySelector("[data-testid=logout]").click()`), cdp.WaitVisible(cdp.CSS("#login-name")))
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

// browse visits each page that the site links to.
func (b *browser) browse() {
	b.t.Helper()
	n, err := cdp.Run(b.ctx, cdp.Evaluate[int](`document.querySelectorAll("[data-testid^=page-]").length`))
	if err != nil || n < 2 {
		b.t.Fatalf("the site links to %d pages: %v", n, err)
	}
	b.do("visit the pages", js(`document.querySelectorAll("[data-testid^=page-]").forEach(a => a.click())`))
}

func (b *browser) say(text string) {
	b.t.Helper()
	b.do("write", cdp.WaitVisible(cdp.CSS("[data-testid=chat-input]")), cdp.SendKeys(cdp.CSS("[data-testid=chat-input]"), text), cdp.Click(cdp.CSS("[data-testid=chat-send]")))
	b.sees("[data-testid=chat-log]", text)
}

// confirm presses a confirmation button where the page asks for one.
func (b *browser) confirm() {
	b.t.Helper()
	b.do("confirm", js(`(document.querySelector("[data-testid=chat-end-confirm]")||{click(){}}).click()`))
}

func (b *browser) shot(name string) {
	b.t.Helper()
	b.shotTo(name)
}

func (b *browser) shotTo(name string) {
	png, err := cdp.Run(b.ctx, cdp.FullScreenshot(100))
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
