curl -X POST 'YOUR_SERVICE_URL/v1/embeddings' \
-H 'Content-Type: application/json' \
-d '{ "model": "text-embedding-chat-model", "messages": [ {"role": "user", "content": "Generate embedding for user query."} ] }'
