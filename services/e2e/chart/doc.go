// Package chart proves the Helm chart of deploy/helm: that what it renders is
// taken by the very services and NATS servers that it is for, keeps secrets to
// those who need them, and holds to the rules of a hardened cluster. It needs
// helm; `make chart` builds it and runs these tests.
package chart
