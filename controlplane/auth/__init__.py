"""Who may do what: TLS, authentication, authorization, tokens, certificates, audit."""
