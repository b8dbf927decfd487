// Package access says who may send and who may ask: a key for each device, and tokens for the API.
//
// A secret is shown once, when it is created; what is kept, in one file, is its SHA-256, which is enough for 256 random
// bits. The file is edited by Create and Revoke (the token command) and followed by every running process (Keys), which sees a change
// within a second, and tells its listeners, so that live sessions of a revoked credential are cut as well.
package access
