// Package desk owns the sandbox's agent desk: the page at /desk where a person
// plays the contact centre's agent. It shows waiting customers with their
// context, and lets the agent accept, chat, send sample rich content, leave
// and end.
//
// The page is plain JavaScript modules and CSS, embedded, without a build step.
// It talks to the sandbox's own JSON API under /desk/api only.
//
// The package never touches the sandbox's state and never authenticates: the
// sandbox is for development and says so on the page.
package desk
