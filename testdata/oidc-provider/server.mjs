// npm's oidc-provider (OpenID-certified) on a loopback port, for the interop
// tests. What it is to know (clients, TLS, lifetimes) comes as JSON in CONFIG;
// once it listens it prints {"issuer": …}; it exits when its standard input
// ends, so that it does not outlive the test. Everything is kept in memory.
import http from 'node:http';
import https from 'node:https';

console.warn = () => {}; // of memory adapters and development keys, which are meant here
console.info = () => {};
const { default: Provider, errors } = await import('oidc-provider');

const config = JSON.parse(process.env.CONFIG);
const server = config.key ? https.createServer({ key: config.key, cert: config.cert }) : http.createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `${config.key ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: config.clients,
    clientDefaults: { grant_types: ['client_credentials'], response_types: [], redirect_uris: [] },
    enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'] },
    ttl: { ClientCredentials: 600, AccessToken: 600, ...config.ttl }, // seconds
    scopes: ['openid', 'offline_access', 'read', 'write'],
    claims: { profile: ['preferred_username'] },
    conformIdTokenClaims: false, // the name is in the ID token, as Entra does it
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id }) }), // anybody
    rotateRefreshToken: true, // one that is used twice revokes the whole grant
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      devInteractions: { enabled: true }, // pages that take any name and password
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (ctx, resource) => {
          if (resource !== 'urn:cdf') throw new errors.InvalidTarget();
          return { scope: 'read write', audience: resource, accessTokenFormat: 'opaque' };
        },
      },
    },
  });
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});
process.stdin.on('end', () => process.exit(0)).resume();
