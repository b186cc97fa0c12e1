// Package transaction is the transaction layer of SIP: RFC 3261 section 17, with the
// state of an accepted INVITE of RFC 6026. It sends requests and responses again
// while they may have been lost, absorbs what comes twice, and tells its user, a
// proxy, of each request once and of each response that counts.
//
// Messages are bytes. What a transaction keeps is a copy: the request that a client
// transaction sends again, the last response of a server transaction.
//
// The layer has no lock of its own: it shares its user's, which is held when a method
// is called and when the user is. Its timers take it.
package transaction
