// Package attack does to the suite what strangers, thieves and other customers
// would, over the same sockets, and expects the exact refusal, while a chat beside
// it goes on. It also holds deploy/docs/threat-model.md to the tests that it names.
// Tests only.
package attack
