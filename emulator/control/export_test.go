package control

import "time"

// Hurry sets how long a client waits for a reply that takes the server no time.
func (c *Client) Hurry(reply time.Duration) { c.reply = reply }
