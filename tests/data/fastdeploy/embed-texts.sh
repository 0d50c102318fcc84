curl -X POST 'YOUR_SERVICE_URL/v1/embeddings' \
-H 'Content-Type: application/json' \
-d '{ "model": "text-embedding-chat-model", "input": [ "This is a sentence for pooling embedding.", "Another input text." ], "user": "test_client" }'
