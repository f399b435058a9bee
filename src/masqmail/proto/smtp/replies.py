"""The replies of our server that `mail.status` has no name for, because nobody else gives them."""

from masqmail.mail.status import OUT_OF_SEQUENCE, Status

NO_RECIPIENTS = Status(554, "5.5.1", "No valid recipients")  # RFC 5321 §3.3
HELO_FIRST = OUT_OF_SEQUENCE.with_text("Say EHLO first")
NO_TRANSACTION = OUT_OF_SEQUENCE.with_text("Need MAIL first")
IN_TRANSACTION = OUT_OF_SEQUENCE.with_text("Not within a mail transaction")
ONLY_CHUNKS = OUT_OF_SEQUENCE.with_text("Only BDAT may go on with this message")
MESSAGE_REFUSED = OUT_OF_SEQUENCE.with_text("This message was refused with an earlier chunk, RSET and begin again")

VRFY_ANSWER = Status(252, "2.1.5", "Send some mail, and we will see")  # RFC 5321 §3.5.3
HELP_ANSWER = Status(
    214, "2.0.0", "MasqMail knows EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH\nSee RFC 5321"
)
READY_FOR_TLS = Status(220, "2.0.0", "Ready to start TLS")
TLS_INJECTION = Status(554, "5.5.1", "Nothing may follow STARTTLS before TLS has begun, closing")  # RFC 3207 §6
ALREADY_TLS = OUT_OF_SEQUENCE.with_text("TLS has begun already")
AUTHENTICATED = Status(235, "2.7.0", "Welcome")
LOGIN_FAILED = Status(535, "5.7.8", "Wrong name or password")
LOGIN_FIRST = Status(530, "5.7.0", "Log in first")
LOGIN_UNAVAILABLE = Status(454, "4.7.0", "Cannot check passwords just now, try again later")  # RFC 4954 §6
ALREADY_AUTHENTICATED = OUT_OF_SEQUENCE.with_text("You are logged in already")
AUTH_NEEDS_TLS = Status(538, "5.7.11", "Passwords are taken under TLS only, say STARTTLS first")
AUTH_CANCELLED = Status(501, "5.7.0", "Log-in cancelled")  # RFC 4954 §4
AUTH_LINE_TOO_LONG = Status(500, "5.5.6", "Line too long")  # RFC 4954 §4.1
NO_SUCH_MECHANISM = Status(504, "5.5.4", "No such mechanism here")
TOO_MANY_ERRORS = Status(421, "4.7.0", "Too many errors, closing")
BAD_TEXT = Status(554, "5.6.0", "Line ends must be CRLF; a CR or LF alone, or a NUL, has no place in a message")
