// Package torture breaks Millrace in every way that a machine, a network and an operator can, while simulated devices send, and then
// holds every store against a ledger of what was acknowledged: nothing may be lost, nothing doubled, nothing there that was not sent.
package torture
