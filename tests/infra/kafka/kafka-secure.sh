# Sourced by kafka-up.sh: the listeners beside the plain one, if KAFKA_TLS names a folder of certificates.
# The names of listeners, users and passwords are those of README.md; passwords are for tests only.
LISTEN=""; PROTOCOLS=""; SECURE=""; SCRAM=()
if [ -n "${KAFKA_TLS:-}" ]; then
  T=$(cd "$KAFKA_TLS" && pwd); at=$((PORT + 2)); : >"$T/listeners.new"
  echo "PLAINTEXT 127.0.0.1:$PORT" >>"$T/listeners.new"
  for pair in SSL:SSL SASL_PLAINTEXT:SASL_PLAINTEXT SASL_SSL:SASL_SSL MUTUAL:SSL EXPIRED:SSL ELSEWHERE:SSL; do
    LISTEN="$LISTEN,${pair%%:*}://127.0.0.1:$at"; PROTOCOLS="$PROTOCOLS,$pair"
    echo "${pair%%:*} 127.0.0.1:$at" >>"$T/listeners.new"; at=$((at + 1))
  done
  SECURE="ssl.keystore.type=PEM
ssl.keystore.location=$T/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$T/ca.pem
listener.name.mutual.ssl.client.auth=required
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location=$T/expired.pem
listener.name.elsewhere.ssl.keystore.type=PEM
listener.name.elsewhere.ssl.keystore.location=$T/elsewhere.pem
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_plaintext.plain.connections.max.reauth.ms=2000
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS;User:admin"
  for listener in sasl_plaintext sasl_ssl; do
    SECURE="$SECURE
listener.name.$listener.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_admin=\"admin-secret\" user_alice=\"alice-secret\";
listener.name.$listener.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.$listener.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.$listener.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
  done
  for user in admin alice; do for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
    SCRAM+=(--add-scram "$mechanism=[name=$user,password=$user-secret]")
  done; done
  mv "$T/listeners.new" "$T/listeners"
fi
